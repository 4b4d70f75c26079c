//! Pieces that came out wrong, fetched once more by all.

use super::blame::crowd;
use super::cores::{nudge, two};
use super::desk::{BLOCK, Desk, has_rate, own};
use super::sim::fetching::Scene;
use crate::swarm::evidence::Statement;
use crate::swarm::{DropReason, PeerSlot, RUN_LEN, Tag, Wish};
use crate::wire::Message;
use std::ops::Range;

/// One piece that some peers send, each its own fingerprint of each block: that of the right one is 0.
struct Poll<F> {
    desk: Desk,
    peers: Vec<PeerSlot>,
    /// What a peer, by its place, sends for a block.
    prints: F,
    /// Those of the blocks that are here.
    here: Vec<u64>,
    /// Who sent which block, in order, by tries.
    tries: Vec<Vec<(usize, u32)>>,
    banned: Vec<usize>,
}

impl<F: Fn(usize, u32) -> u64> Poll<F> {
    fn of(blocks: u32, rates: &[u64], prints: F) -> Self {
        let (mut desk, peers) = crowd(blocks, rates.len() as u8);
        peers.iter().zip(rates).for_each(|(peer, rate)| has_rate(&mut desk, *peer, *rate));
        let here = vec![u64::MAX; blocks as usize];
        Self { desk, peers, prints, here, tries: vec![vec![]], banned: vec![] }
    }

    /// All send what they are asked for, and what is wished is done, until nothing is left to do.
    fn run(&mut self) {
        while self.step() {}
    }

    /// Says whether there was something to do.
    fn step(&mut self) -> bool {
        let settled = self.settle();
        self.fetch() || settled
    }

    fn settle(&mut self) -> bool {
        let mut idle = true;
        loop {
            let wishes = self.desk.wishes();
            if wishes.is_empty() {
                break;
            }
            idle = false;
            wishes.into_iter().for_each(|wish| self.grant(wish));
        }
        !idle
    }

    fn fetch(&mut self) -> bool {
        let mut asked = Vec::new();
        for (place, peer) in self.peers.iter().enumerate() {
            asked.extend(self.desk.requests(*peer).into_iter().map(|at| (place, at)));
        }
        let idle = asked.is_empty();
        for (place, at) in asked {
            if self.desk.block_comes(self.peers[place], at).1 {
                self.tries.last_mut().unwrap().push((place, at.1));
                self.here[at.1 as usize] = (self.prints)(place, at.1);
            }
        }
        !idle
    }

    fn grant(&mut self, wish: Wish) {
        let blocks = |runs: &Range<usize>| runs.start * 16..(runs.end * 16).min(self.here.len());
        match wish {
            Wish::Hash(piece, runs) => {
                let last = blocks(&runs).end == self.here.len();
                let verdict = last.then(|| self.here.iter().all(|print| *print == 0));
                self.desk.swarm.hashed(self.desk.now, piece, runs, verdict);
            }
            Wish::Write(piece, run) => self.desk.swarm.written(self.desk.now, piece, run),
            Wish::Fingerprint(piece, runs) => {
                let prints = self.here[blocks(&runs)].to_vec();
                self.desk.swarm.fingerprinted(self.desk.now, piece, runs, &prints);
            }
            Wish::Done { good: false, .. } => self.tries.push(vec![]),
            Wish::Drop(slot, DropReason::BadPiece(_)) => {
                self.banned.push(self.peers.iter().position(|peer| *peer == slot).unwrap());
                self.desk.swarm.gone(self.desk.now, slot);
            }
            _ => {}
        }
    }

    /// Peers that sent something in a try.
    fn senders(&self, number: usize) -> Vec<usize> {
        let mut places: Vec<usize> = self.tries[number].iter().map(|(place, _)| *place).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// A block in twenty of these is bad, in each liar's own way.
fn lies(liars: &[usize]) -> impl Fn(usize, u32) -> u64 {
    let liars = liars.to_vec();
    move |place, block| {
        if liars.contains(&place) && block % 20 == place as u32 { 1 + place as u64 } else { 0 }
    }
}

/// The first piece has come out wrong; this was said of it.
fn put_to_the_vote(desk: &Desk, said: impl Iterator<Item = Statement>) {
    let (piece, commons) = (desk.piece(0), &desk.swarm.commons);
    assert!(commons.map.claim(piece));
    commons.evidence().file(piece, said);
    commons.map.release(piece, true);
}

#[test]
fn all_send_a_bad_piece_again_and_exactly_the_liars_are_banned() {
    // One of them is too long for memory: it is hashed and written run by run.
    for blocks in [120, 1024] {
        let mut poll = Poll::of(blocks, &[100_000; 6], lies(&[1, 4]));
        poll.run();
        assert!(poll.desk.swarm.is_seeding(), "{blocks} blocks");
        poll.banned.sort_unstable();
        assert_eq!(poll.banned, [1, 4]);
        let [first, second] = &poll.tries[..] else { panic!("{} tries", poll.tries.len()) };
        assert!(poll.senders(1).len() > 2, "{:?}", poll.senders(1));
        let again = |(place, block): &&(usize, u32)| first.contains(&(*place, *block));
        assert_eq!(second.iter().filter(again).count(), 0, "each block comes from another than before");
        let disputed = second.len() - blocks as usize;
        assert!(
            (1..=blocks as usize / 5).contains(&disputed),
            "{disputed} of {blocks} were asked of a third"
        );
    }
}

/// When the vote does not help, those who agree with each other send the piece.
#[test]
fn liars_who_agree_are_found_by_all_who_agree_otherwise() {
    let mut poll =
        Poll::of(120, &[100_000; 6], |place, block| u64::from([1, 4].contains(&place) && block % 20 < 7));
    poll.run();
    assert!(poll.desk.swarm.is_seeding());
    poll.banned.sort_unstable();
    assert_eq!(poll.banned, [1, 4]);
    let last = poll.tries.len() - 1;
    assert!((2..4).contains(&last), "{last}");
    assert!(poll.senders(last).len() > 2);
}

#[test]
fn as_many_liars_as_are_honest_are_found_by_one_camp_after_the_other() {
    let lies = |place, block| u64::from(place < 4 && block % 20 < 3);
    for honest in [0, 1] {
        // Whoever is asked first.
        let mut poll = Poll::of(1024, &[100_000; 8], |place, block| lies((place + 4 * honest) % 8, block));
        poll.run();
        assert!(poll.desk.swarm.is_seeding());
        poll.banned.sort_unstable();
        let liars: Vec<usize> = (0..8).filter(|place| (place + 4 * honest) % 8 < 4).collect();
        assert_eq!(poll.banned, liars);
        assert!(poll.tries.len() <= 5, "{} tries", poll.tries.len());
        assert!(poll.senders(poll.tries.len() - 1).len() > 2);
    }
}

#[test]
fn liars_of_several_sorts_are_all_found() {
    let lies = |place, block: u32| if place < 4 && block % 10 < 3 { 1 + place as u64 / 2 } else { 0 };
    let mut poll = Poll::of(120, &[100_000; 7], lies);
    poll.run();
    assert!(poll.desk.swarm.is_seeding());
    poll.banned.sort_unstable();
    assert_eq!(poll.banned, [0, 1, 2, 3]);
}

/// Said of the first piece, which was voted on in vain: these quarrel.
fn put_to_the_camps(desk: &Desk, quarrels: &[[PeerSlot; 2]]) {
    let tag = |slot: PeerSlot| desk.swarm.peers.get(slot).unwrap().tag;
    let said = quarrels.iter().flat_map(|pair| pair.map(tag).into_iter().zip(0..));
    put_to_the_vote(desk, said.map(|(from, print)| Statement { index: 0, from, print }));
    desk.swarm.commons.evidence().note_vote(desk.piece(0));
}

#[test]
fn a_camp_that_has_become_slow_leaves_the_piece_to_another() {
    let (mut desk, peers) = crowd(120, 3);
    peers.iter().for_each(|peer| has_rate(&mut desk, *peer, 100_000));
    put_to_the_camps(&desk, &[[peers[0], peers[1]], [peers[0], peers[2]]]);
    let piece = desk.piece(0);
    let asked = desk.requests(peers[1]);
    assert!(!asked.is_empty() && !desk.requests(peers[2]).is_empty());
    assert_eq!(desk.requests(peers[0]), []);
    [1, 2].into_iter().for_each(|place| has_rate(&mut desk, peers[place], 1_000));
    has_rate(&mut desk, peers[0], 1_000_000);
    desk.pass(1);
    assert_eq!(desk.requests(peers[0]), []);
    desk.wishes();
    assert!(!desk.requests(peers[0]).is_empty(), "{:?}", desk.swarm.active.get(&piece));
}

#[test]
fn a_slow_camp_of_one_core_leaves_the_piece_to_another_core() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let (slow, fast) = (one.giver(1, &[0]), other.giver(2, &[0]));
    has_rate(&mut one, slow, 1_000);
    has_rate(&mut other, fast, 1_000_000);
    let tag = |desk: &Desk, slot| desk.swarm.peers.get(slot).unwrap().tag;
    let said = [tag(&one, slow), tag(&other, fast)].into_iter().zip(0..);
    put_to_the_vote(&one, said.map(|(from, print)| Statement { index: 0, from, print }));
    let piece = one.piece(0);
    one.swarm.commons.evidence().note_vote(piece);
    assert!(!one.requests(slow).is_empty() && one.swarm.active[&piece].bars(tag(&other, fast)));
    for _ in 0..5 {
        nudge(&mut other, &mut one);
        nudge(&mut one, &mut other);
        if !other.requests(fast).is_empty() {
            assert!(!one.swarm.active.contains_key(&piece));
            return;
        }
        other.pass(1);
        one.pass(1);
    }
    panic!("the other core's peer is asked for nothing");
}

#[test]
fn a_camp_that_has_left_does_not_keep_the_piece() {
    let (mut desk, peers) = crowd(120, 3);
    peers.iter().for_each(|peer| has_rate(&mut desk, *peer, 100_000));
    put_to_the_camps(&desk, &[[peers[0], peers[1]], [peers[0], peers[2]]]);
    assert!(!desk.requests(peers[1]).is_empty());
    [1, 2].into_iter().for_each(|place| desk.swarm.gone(desk.now, peers[place]));
    assert_eq!(desk.requests(peers[0]), []);
    desk.pass(7);
    assert!(!desk.requests(peers[0]).is_empty());
}

/// What is hashed cannot be taken back.
#[test]
fn what_a_found_liar_has_spoiled_is_given_up_at_once() {
    let mut poll = Poll::of(1024, &[100_000; 2], |_, _| 0);
    let piece = poll.desk.piece(0);
    for at in poll.desk.requests(poll.peers[0]) {
        assert!(poll.desk.block_comes(poll.peers[0], at).1);
    }
    while poll.desk.swarm.active[&piece].runs[0] != crate::swarm::active::Stage::Written {
        assert!(poll.step());
    }
    let liar = poll.desk.swarm.peers.get(poll.peers[0]).unwrap().tag;
    poll.desk.swarm.blame(liar, piece);
    poll.desk.swarm.gone(poll.desk.now, poll.peers[0]);
    poll.settle();
    poll.desk.pass(1);
    assert!(!poll.desk.swarm.active.contains_key(&piece));
    poll.run();
    assert!(poll.desk.swarm.is_seeding());
    assert_eq!(poll.senders(1), [1]);
}

#[test]
fn without_a_third_to_decide_one_alone_sends_a_bad_piece_again() {
    let mut poll = Poll::of(120, &[100_000; 2], lies(&[0]));
    poll.run();
    assert!(poll.desk.swarm.is_seeding());
    assert!(poll.tries.len() > 1 && (1..poll.tries.len()).all(|number| poll.senders(number).len() == 1));
}

#[test]
fn who_has_sent_most_of_it_and_is_the_fastest_by_far_sends_a_bad_piece_again_alone() {
    let mut poll = Poll::of(120, &[100_000, 10_000_000, 100_000, 100_000], |_, _| 0);
    let from = poll.desk.swarm.peers.get(poll.peers[1]).unwrap().tag;
    put_to_the_vote(
        &poll.desk,
        (0..120).map(|index| Statement { index, from, print: u64::from(index == 7) }),
    );
    poll.run();
    assert_eq!(poll.senders(0), [1]);
    assert_eq!(poll.banned, [1]);
}

#[test]
fn a_vote_that_nobody_is_left_for_ends_and_one_alone_sends_the_piece() {
    let mut poll = Poll::of(120, &[100_000; 3], lies(&[1]));
    // Until a block is disputed.
    while poll.desk.swarm.totals().wasted <= u64::from(120 * BLOCK) {
        assert!(poll.fetch());
        poll.settle();
    }
    poll.desk.hear(poll.peers[2], Message::Choke);
    poll.run();
    assert!(!poll.desk.swarm.is_seeding(), "what the first and the liar have sent is for the third to say");
    poll.desk.pass(4);
    poll.run();
    assert_eq!(poll.tries.len(), 2, "it may come back");
    poll.desk.pass(3);
    poll.run();
    assert!(poll.desk.swarm.is_seeding());
    assert_eq!(poll.banned, [1]);
    assert_eq!(poll.senders(2).len(), 1);
}

#[test]
fn another_core_has_what_is_put_to_the_vote_of_those_who_have_not_sent_it() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let helper = other.giver(2, &[0]);
    let from = other.swarm.peers.get(helper).unwrap().tag;
    let stranger = Tag { core: 1, number: 99 };
    let from = |index| if index % 2 == 0 { from } else { stranger };
    put_to_the_vote(&one, (0..32).map(|index| Statement { index, from: from(index), print: 0 }));
    let givers = [3, 4, 5].map(|number| one.giver(number, &[0]));
    givers.iter().for_each(|giver| has_rate(&mut one, *giver, 10_000));
    let asked = one.requests(givers[0]);
    assert!(!asked.is_empty() && asked.len() < 32);
    other.requests(helper);
    nudge(&mut other, &mut one);
    nudge(&mut one, &mut other);
    let fetched = other.requests(helper);
    assert!(!fetched.is_empty() && fetched.iter().all(|(_, block)| block % 2 == 1), "{fetched:?}");
}

#[test]
fn once_a_liar_is_found_all_send_what_one_alone_was_to_send() {
    let (mut desk, peers) = crowd(120, 4);
    peers.iter().for_each(|peer| has_rate(&mut desk, *peer, 100_000));
    let [liar, other] = [peers[3], peers[2]].map(|peer| desk.swarm.peers.get(peer).unwrap().tag);
    let from = |index| if index % 2 == 0 { liar } else { other };
    put_to_the_vote(&desk, (0..120).map(|index| Statement { index, from: from(index), print: 0 }));
    let piece = desk.piece(0);
    desk.swarm.commons.evidence().note_vote(piece);
    assert!(!desk.requests(peers[0]).is_empty() && desk.swarm.active[&piece].is_sole());
    assert_eq!(desk.requests(peers[1]), []);
    desk.swarm.blame(liar, piece);
    desk.pass(1);
    assert!(!desk.swarm.active[&piece].is_sole() && !desk.requests(peers[1]).is_empty());
}

/// Some choke and unchoke every few seconds: what they have sent is not thrown away each time.
#[test]
fn what_one_alone_has_sent_waits_for_a_while_when_it_chokes() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let (sender, piece) = (one.giver(1, &[0]), one.piece(0));
    let from = Tag { core: 0, number: 99 };
    put_to_the_vote(&one, [Statement { index: 0, from, print: 0 }].into_iter());
    one.swarm.commons.evidence().note_vote(piece);
    let asked = one.requests(sender);
    assert!(!asked.is_empty() && one.swarm.active[&piece].is_sole());
    asked.into_iter().for_each(|at| assert!(one.block_comes(sender, at).1));
    let idle = other.giver(2, &[0]);
    other.requests(idle);
    assert!(one.swarm.commons.is_idle(1));
    one.hear(sender, Message::Choke);
    one.pass(4);
    one.hear(sender, Message::Unchoke);
    let at = one.requests(sender)[0];
    assert!(one.block_comes(sender, at).1);
    one.hear(sender, Message::Choke);
    one.pass(4);
    assert!(one.swarm.active.contains_key(&piece), "it has sent something meanwhile");
    one.hear(sender, Message::Unchoke);
    assert!(!one.requests(sender).is_empty());
    one.pass(2);
    assert!(one.swarm.active.contains_key(&piece), "it goes on");
    one.hear(sender, Message::Choke);
    one.pass(1);
    assert!(!one.swarm.active.contains_key(&piece), "others have nothing to do");
}

/// They are asked again each time that they were given up, one while the other is waited for, and never send.
#[test]
fn a_vote_does_not_wait_for_last_voters_that_fall_silent() {
    for count in [1, 2] {
        let mut poll = Poll::of(120, &vec![100_000; 2 + count], lies(&[1]));
        while poll.desk.swarm.totals().wasted <= u64::from(120 * BLOCK) {
            assert!(poll.fetch());
            poll.settle();
        }
        let silent = poll.peers.split_off(2);
        for _ in 0..120 {
            poll.run();
            for peer in &silent {
                poll.desk.requests(*peer);
                poll.desk.hear(*peer, Message::KeepAlive);
            }
            poll.desk.pass(1);
        }
        assert!(poll.desk.swarm.is_seeding(), "{count} silent ones");
        assert_eq!(poll.banned, [1]);
    }
}

#[test]
fn what_is_left_of_a_piece_that_a_liar_had_spoiled_other_cores_may_begin_anew() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let (sender, piece) = (one.giver(1, &[0]), one.piece(0));
    let idle = other.giver(2, &[0]);
    let said = |from| (0..32).map(move |index| Statement { index, from, print: 0 });
    let (liar, honest) = (Tag { core: 0, number: 99 }, other.swarm.peers.get(idle).unwrap().tag);
    put_to_the_vote(&one, said(liar).chain(said(honest)));
    one.swarm.commons.evidence().note_vote(piece);
    one.requests(sender).into_iter().for_each(|at| assert!(one.block_comes(sender, at).1));
    one.swarm.blame(liar, piece);
    one.pass(1);
    assert!(!one.swarm.active[&piece].is_sole());
    one.swarm.gone(one.now, sender);
    other.requests(idle);
    one.pass(8);
    other.swarm.catch_up(other.now);
    assert!(one.swarm.commons.map.is_suspect(piece) && !other.requests(idle).is_empty());
}

/// What two have said differently only a slow third can settle: it is asked also where a fast one would be waited for otherwise.
#[test]
fn in_order_a_slow_peer_is_asked_for_what_only_it_can_settle() {
    let mut poll = Poll::of(120, &[1_000_000, 1_000_000, 2_000], |_, _| 0);
    own(&mut poll.desk).sequential = true;
    let from = |place: usize| poll.desk.swarm.peers.get(poll.peers[place]).unwrap().tag;
    let (first, second) = (from(0), from(1));
    let said = |from, print| (7..8).map(move |index| Statement { index, from, print });
    put_to_the_vote(&poll.desk, said(first, 1).chain(said(second, 2)));
    poll.run();
    assert!(poll.desk.swarm.is_seeding());
    assert!(poll.tries[0].contains(&(2, 7)), "{:?}", poll.tries);
}

#[test]
fn an_owner_that_has_sent_all_that_is_lacking_leaves_the_piece_to_others() {
    let (mut desk, peers) = crowd(120, 3);
    peers.iter().for_each(|peer| has_rate(&mut desk, *peer, 100_000));
    let from = desk.swarm.peers.get(peers[0]).unwrap().tag;
    put_to_the_vote(&desk, (8..120).map(|index| Statement { index, from, print: 0 }));
    for at in desk.requests(peers[0]) {
        assert!(at.1 < 8 && desk.block_comes(peers[0], at).1);
    }
    assert_eq!(desk.requests(peers[0]), []);
    let piece = desk.piece(0);
    assert!(desk.swarm.peers.owner(&desk.swarm.active[&piece]).is_none());
    assert!(!desk.requests(peers[1]).is_empty());
}

/// They may not come to it for long.
#[test]
fn peers_of_a_busy_core_are_not_counted_on_to_decide() {
    for (pieces, votes) in [(1, true), (9, false)] {
        let [mut one, mut other] = two(2 * RUN_LEN, pieces);
        let all: Vec<u32> = (0..pieces).collect();
        let givers = [3, 4].map(|number| one.giver(number, &all));
        givers.iter().for_each(|giver| has_rate(&mut one, *giver, 100_000));
        let helpers = [5, 6].map(|number| other.giver(number, &all));
        helpers.iter().for_each(|helper| has_rate(&mut other, *helper, 100_000));
        let from = givers.map(|giver| one.swarm.peers.get(giver).unwrap().tag);
        let from = |index: u32| from[index as usize % 2];
        put_to_the_vote(&one, (0..32).map(|index| Statement { index, from: from(index), print: 0 }));
        assert!(one.swarm.commons.map.claim(one.piece(0)));
        assert_eq!(one.swarm.votes_for(givers[0], one.piece(0)).is_some(), votes, "{pieces} pieces");
    }
}

/// Two pieces of 16 MiB, and two liars of six. (When one alone sends a bad piece again this takes seven times as long as it need.)
#[test]
fn liars_do_not_hold_up_long_pieces() {
    for (cores, alike) in [(1, false), (2, false), (1, true), (2, true)] {
        let scene = Scene {
            runs: 128,
            in_piece: 64,
            seeds: &[(4, 2_000_000)],
            liars: (2, 2_000_000),
            alike,
            cores,
            ..Scene::plain()
        };
        let (wasted, time) = scene.fetch(1);
        println!("{cores} cores, {alike}: {time:.2} times what honest links need, {wasted:.0} % in vain");
        let most = if alike { 4.0 } else { 3.5 };
        assert!(time < most, "{cores} cores, {alike}: {time} times what honest links need");
    }
}
