//! Pieces that the disk does not give back any more (BEP 54).

use super::cores::nudge;
use super::desk::{BLOCK, Desk, Said, bits};
use super::extended::{desk, greet, hello, said, tell};
use crate::metainfo::{Block, Layout, PieceIndex};
use crate::swarm::hear::CROSSING;
use crate::swarm::{Commons, DropReason, Loss, PeerSlot, Settings, Wish};
use crate::wire::extended::{ExtendedHandshake, Extension};
use crate::wire::{Message, Reserved};
use std::sync::Arc;

const ALL: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// A peer that has nothing, and would understand.
fn taker(desk: &mut Desk, number: u8) -> PeerSlot {
    let peer = desk.taker(number);
    greet(desk, peer, &hello());
    desk.say(peer);
    peer
}

fn lose(desk: &mut Desk, piece: u32) -> Loss {
    desk.swarm.lose(desk.layout.piece(piece).unwrap())
}

fn taken(desk: &mut Desk, peer: PeerSlot) -> Vec<Block> {
    let mut out = Vec::new();
    desk.swarm.take_upload(peer, u32::MAX, &mut out);
    out
}

#[test]
fn who_has_heard_of_it_is_told_and_what_it_waits_for_is_rejected() {
    let mut desk = desk(10, &ALL);
    let [one, other] = [1, 2].map(|number| taker(&mut desk, number));
    let has_it = desk.connect(false, 3).unwrap();
    greet(&mut desk, has_it, &hello());
    desk.hear(has_it, Message::Bitfield(&bits(10, &[7])));
    desk.say(has_it);
    [6, 7].into_iter().for_each(|piece| desk.ask(one, [piece, 0, BLOCK]));
    let sent = taken(&mut desk, one);
    assert_eq!(sent.len(), 2);
    desk.ask(other, [7, 0, BLOCK]);
    desk.say(other);
    desk.wishes();
    assert_eq!(lose(&mut desk, 7), Loss::New);
    desk.swarm.cannot_send(one, vec![sent[1]]);
    assert!(desk.wishes().contains(&Wish::Wake(other)), "at once");
    for peer in [one, other] {
        let all = desk.say(peer);
        let told = Said::Extended(10 + Extension::DontHave.id(), vec![0, 0, 0, 7]);
        assert!(all.contains(&Said::Reject(7, 0)) && all.contains(&told), "{all:?}");
    }
    assert_eq!(said(&mut desk, has_it, Extension::DontHave), Vec::<Vec<u8>>::new(), "it misses nothing");
    // It may have asked before it heard.
    (0..20).for_each(|_| desk.ask(one, [7, 0, BLOCK]));
    assert_eq!(desk.say(one), vec![Said::Reject(7, 0); 20]);
    assert_eq!((desk.swarm.totals().limits.offences, taken(&mut desk, one)), (0, vec![]));
    let requests = desk.swarm.totals().requests;
    assert_eq!((requests.served, requests.refused, requests.dropped), (1, 22, 0));
    assert_eq!((lose(&mut desk, 7), desk.swarm.totals().lost_pieces), (Loss::Known, 1));
    desk.now += CROSSING;
    desk.ask(one, [7, 0, BLOCK]);
    assert_eq!(desk.swarm.totals().limits.offences, 1, "by now it knows");
    assert_eq!(desk.say(one), [Said::Reject(7, 0)]);
    assert_eq!(said(&mut desk, one, Extension::DontHave), Vec::<Vec<u8>>::new(), "once");
}

#[test]
fn a_newcomer_never_hears_of_it() {
    let mut desk = desk(10, &ALL);
    lose(&mut desk, 7);
    let peer = desk.connect(false, 1).unwrap();
    let first = desk.say(peer);
    assert!(first.contains(&Said::Bitfield(vec![0xfe, 0xc0])), "{first:?}");
    greet(&mut desk, peer, &hello());
    desk.hear(peer, Message::Interested);
    let then = desk.say(peer);
    let of_it = |said: &Said| match said {
        Said::Suggest(piece) | Said::AllowedFast(piece) | Said::Have(piece) => *piece == 7,
        Said::Extended(id, _) => *id == 10 + Extension::DontHave.id(),
        _ => false,
    };
    assert!(!then.iter().any(of_it), "{then:?}");
    assert_eq!(desk.drops(), []);
}

#[test]
fn who_would_not_understand_is_sent_away_and_who_has_not_said_so_yet_is_waited_for() {
    let mut desk = desk(10, &ALL);
    let deaf = desk.taker(1);
    greet(&mut desk, deaf, &ExtendedHandshake::default());
    let silent = desk.taker(2);
    // Who hears no rejects would wait for what it has asked for.
    desk.reserved.0[7] &= !4;
    let slow = taker(&mut desk, 4);
    desk.reserved = Reserved::default();
    let plain = desk.taker(3);
    desk.say(deaf);
    desk.wishes();
    lose(&mut desk, 7);
    [deaf, silent, slow, plain].into_iter().for_each(|peer| _ = desk.say(peer));
    let lost = || DropReason::Lost(desk.layout.piece(7).unwrap());
    let gone = [(deaf, lost()), (slow, lost()), (plain, lost())];
    assert_eq!(desk.drops(), gone);
    greet(&mut desk, silent, &hello());
    assert_eq!(said(&mut desk, silent, Extension::DontHave), [[0, 0, 0, 7]]);
    assert_eq!(desk.drops(), []);
}

#[test]
fn a_seed_goes_on_without_some_pieces_but_not_without_most_and_who_fetches_not_at_all() {
    let have: Vec<u32> = (0..40).collect();
    let mut large = desk(40, &have);
    assert!((0..16).all(|piece| lose(&mut large, piece) == Loss::New));
    assert_eq!([lose(&mut large, 3), lose(&mut large, 16)], [Loss::Known, Loss::Grave]);
    let mut small = desk(2, &[0, 1]);
    assert_eq!([lose(&mut small, 1), lose(&mut small, 0)], [Loss::New, Loss::Grave]);
    assert_eq!(lose(&mut desk(10, &[1, 2, 3]), 2), Loss::Grave, "it would never be complete");
}

/// A download has ended, and a peer has not been told of all that was had before some of it was lost.
#[test]
fn who_hears_late_what_we_have_does_not_hear_of_it() {
    let mut desk = desk(2, &[0]);
    let peer = taker(&mut desk, 1);
    let seed = desk.giver(2, &[0, 1]);
    let asked = desk.requests(seed);
    assert_eq!(asked, [(1, 0)]);
    desk.block_comes(seed, (1, 0));
    desk.settle(&[]);
    assert_eq!(lose(&mut desk, 1), Loss::New);
    let said = desk.say(peer);
    assert!(!said.contains(&Said::Have(1)), "{said:?}");
}

/// All of it was taken to be sent, and so it counted as given.
#[test]
fn what_could_not_be_sent_was_not_given() {
    let mut desk = desk(10, &ALL);
    let peer = taker(&mut desk, 1);
    desk.ask(peer, [7, 0, BLOCK]);
    let blocks = taken(&mut desk, peer);
    let standing = |desk: &Desk| {
        let peer = desk.swarm.peers.get(peer).unwrap();
        (peer.served.len(), peer.taken, peer.leaving)
    };
    assert_eq!(standing(&desk), (1, 1, u64::from(BLOCK)));
    lose(&mut desk, 7);
    desk.swarm.cannot_send(peer, blocks);
    assert_eq!(standing(&desk), (0, 0, 0));
}

#[test]
fn all_cores_lose_it() {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(10 * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(10, 2));
    layout.pieces().for_each(|piece| commons.map.set_have(piece));
    let mut cores = [0, 1].map(|core| Desk::on_core(Arc::clone(&layout), Arc::clone(&commons), core));
    cores.iter_mut().for_each(|core| core.reserved = Reserved::ours(false));
    let [one, other] = &mut cores;
    let peer = taker(other, 1);
    other.ask(peer, [7, 0, BLOCK]);
    assert_eq!(lose(one, 7), Loss::New);
    nudge(one, other);
    let told = other.say(peer);
    assert!(told.contains(&Said::Reject(7, 0)), "{told:?}");
    assert_eq!((lose(other, 7), other.swarm.totals().lost_pieces), (Loss::Known, 0), "one counts it");
    // A core that begins late knows, too.
    let mut late = Desk::on_core(layout, commons, 1);
    let peer = late.connect(false, 2).unwrap();
    assert!(late.say(peer).contains(&Said::Bitfield(vec![0xfe, 0xc0])));
}

#[test]
fn a_super_seed_shows_others_instead() {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(4 * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(4, 1));
    layout.pieces().for_each(|piece| commons.map.set_have(piece));
    let settings = Settings { super_seed: true, seed_slots: 4, ..Desk::settings() };
    let mut desk = Desk::with(layout, commons, 0, settings);
    desk.reserved = Reserved::ours(false);
    let peer = desk.connect(false, 1).unwrap();
    greet(&mut desk, peer, &hello());
    desk.hear(peer, Message::Interested);
    let shown = |desk: &mut Desk| -> Vec<u32> {
        let said = desk.say(peer).into_iter();
        said.filter_map(|said| if let Said::Have(piece) = said { Some(piece) } else { None }).collect()
    };
    let first = shown(&mut desk);
    assert_eq!(first.len(), 2);
    let hidden: Vec<PieceIndex> =
        desk.layout.pieces().filter(|piece| !first.contains(&piece.get())).collect();
    // Of what it was not shown it hears nothing.
    assert_eq!(desk.swarm.lose(hidden[0]), Loss::New);
    assert_eq!(said(&mut desk, peer, Extension::DontHave), Vec::<Vec<u8>>::new());
    assert_eq!(lose(&mut desk, first[0]), Loss::New);
    let all = desk.say(peer);
    assert!(all.contains(&Said::Have(hidden[1].get())), "in its place: {all:?}");
    assert!(all.contains(&Said::Extended(10 + Extension::DontHave.id(), first[0].to_be_bytes().to_vec())));
    tell(&mut desk, peer, Extension::UploadOnly, &[0]);
    desk.ask(peer, [first[0], 0, BLOCK]);
    assert_eq!((taken(&mut desk, peer), desk.drops()), (vec![], vec![]));
}
