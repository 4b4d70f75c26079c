//! What is fetched, in which order, at what pace, of whom.

use super::cores::{nudge, two};
use super::desk::{BLOCK, Desk, Said, own};
use super::sim::plan::{Has, NodePlan, Plan};
use super::sim::world::World;
use crate::metainfo::Layout;
use crate::swarm::window::Window;
use crate::swarm::{Commons, DropReason, IpFilter, PeerSlot, Priority, Selection, Settings, Source, Wish};
use crate::wire::extended::{ExtendedHandshake, Extension};
use crate::wire::{Message, Reserved};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A swarm that has nothing of files of so many blocks; a piece is a block.
fn desk(files: &[u32], priorities: &[Priority], settings: Settings) -> Desk {
    let lengths = files.iter().map(|blocks| u64::from(blocks * BLOCK));
    let layout = Arc::new(Layout::new(BLOCK.into(), lengths).unwrap());
    let selection = Selection::of_files(&layout, priorities);
    let commons = Arc::new(Commons::of_selection(&layout, selection, 1));
    Desk::with(layout, commons, 0, settings)
}

/// Whoever suggests a piece does not know what the user wants first.
#[test]
fn what_is_suggested_comes_first_of_what_is_wanted_as_much() {
    let mut desk = desk(&[8, 8], &[Priority::High, Priority::Low], Desk::settings());
    desk.reserved = Reserved::ours(false);
    let peer = desk.connect(true, 1).unwrap();
    let messages = [Message::HaveAll, Message::Suggest(13), Message::Suggest(6), Message::Unchoke];
    messages.into_iter().for_each(|message| desk.hear(peer, message));
    desk.swarm.peers.get_mut(peer).unwrap().requests = Window::beginning(16);
    let order: Vec<u32> = desk.requests(peer).into_iter().map(|(piece, _)| piece).collect();
    assert!(order.len() == 16 && order[..8].iter().all(|piece| *piece < 8), "{order:?}");
    assert_eq!((order[0], order[8]), (6, 13), "{order:?}");
}

/// Fetches all there is from a peer, block by block: the pieces in the order they were asked for.
fn fetch(desk: &mut Desk, peer: PeerSlot) -> Vec<u32> {
    let mut order = Vec::new();
    loop {
        let asked = desk.requests(peer);
        if asked.is_empty() {
            return order;
        }
        for block in asked {
            order.push(block.0);
            assert!(desk.block_comes(peer, block).1);
        }
        desk.settle(&[]);
    }
}

#[test]
fn what_is_skipped_is_not_fetched_and_the_rest_makes_a_partial_seed() {
    let mut desk = desk(&[3, 4, 5], &[Priority::Normal, Priority::Skip, Priority::Normal], Desk::settings());
    let useless = desk.connect(true, 1).unwrap();
    desk.hear(useless, Message::Have(3));
    assert_eq!(desk.say(useless), [], "it has nothing that is wanted");
    let giver = desk.giver(2, &(0..12).collect::<Vec<_>>());
    let mut fetched = fetch(&mut desk, giver);
    fetched.sort_unstable();
    assert_eq!(fetched, [0, 1, 2, 7, 8, 9, 10, 11]);
    assert!(desk.swarm.is_seeding() && desk.swarm.is_partial_seed());
    let late = desk.connect(false, 3).unwrap();
    assert!(matches!(desk.say(late)[..], [Said::Bitfield(_)]));
    desk.hear(late, Message::Bitfield(&[0xff, 0xf0]));
    assert_eq!(
        desk.drops().last(),
        Some(&(late, DropReason::BothSeeds)),
        "nobody has anything for the other"
    );
}

#[test]
fn a_partial_seed_says_that_it_downloads_nothing() {
    let mut desk = desk(&[1, 1], &[Priority::Normal, Priority::Skip], Desk::settings());
    desk.reserved = Reserved::ours(false);
    let hello = |desk: &mut Desk, number| {
        let peer = desk.connect(false, number).unwrap();
        let words = desk.say(peer);
        let mut hellos = words.iter().filter_map(|said| match said {
            Said::Extended(0, payload) => ExtendedHandshake::parse(payload),
            _ => None,
        });
        (peer, hellos.next().unwrap().upload_only)
    };
    let (before, said) = hello(&mut desk, 1);
    assert_eq!(said, None);
    let mut theirs = ExtendedHandshake::default();
    theirs.want(Extension::UploadOnly);
    desk.hear(before, Message::Extended { id: 0, payload: &theirs.encode() });
    desk.say(before);
    let giver = desk.giver(2, &[0, 1]);
    assert_eq!(fetch(&mut desk, giver), [0]);
    assert!(desk.swarm.is_partial_seed());
    let told = Said::Extended(Extension::UploadOnly.id(), vec![1]);
    assert!(desk.say(before).contains(&told), "who was there before is told");
    assert_eq!(hello(&mut desk, 3).1, Some(true));
}

#[test]
fn files_of_high_priority_come_first_and_of_low_priority_last() {
    let levels = [Priority::Low, Priority::Normal, Priority::High];
    let mut desk = desk(&[20, 20, 20], &levels, Desk::settings());
    let giver = desk.giver(1, &(0..60).collect::<Vec<_>>());
    let order = fetch(&mut desk, giver);
    let files: Vec<u32> = order.iter().map(|piece| piece / 20).collect();
    let mut sorted = files.clone();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(files, sorted);
}

#[test]
fn in_order_means_from_the_start_but_for_the_end_of_the_file_at_hand() {
    let settings = Settings { sequential: true, ..Desk::settings() };
    let mut desk = desk(&[10, 20], &[], settings);
    let giver = desk.giver(1, &(0..30).collect::<Vec<_>>());
    let mut order = fetch(&mut desk, giver);
    assert_eq!(order.remove(0), 9);
    let end = order.iter().position(|piece| *piece == 29).unwrap();
    assert!((9..20).contains(&end), "soon after the file was begun: {end}");
    order.remove(end);
    assert_eq!(order, [(0..9).collect::<Vec<u32>>(), (10..29).collect()].concat());
}

#[test]
fn the_first_pieces_are_taken_by_chance_and_then_the_rarest() {
    let (mut first_rarest, mut later_rarest) = (0, 0);
    for pieces in 40..72 {
        let all: Vec<u32> = (0..pieces).collect();
        let mut desk = Desk::new(BLOCK, pieces, &[]);
        // The last piece is the rarest. (Who has it lacks the first: of a seed the rarest come at once.)
        let others = all[..pieces as usize - 1].to_vec();
        desk.giver(1, &others);
        let giver = desk.giver(2, &others[1..]);
        desk.hear(giver, Message::Have(pieces - 1));
        first_rarest += u32::from(desk.requests(giver)[0].0 == pieces - 1);
        let mut desk = Desk::new(BLOCK, pieces, &[0, 1, 2, 3]);
        desk.giver(1, &others);
        let giver = desk.giver(2, &others[1..]);
        desk.hear(giver, Message::Have(pieces - 1));
        later_rarest += u32::from(desk.requests(giver)[0].0 == pieces - 1);
    }
    assert!(first_rarest < 8, "{first_rarest} of 32");
    assert_eq!(later_rarest, 32);
}

#[test]
fn with_a_download_limit_no_more_is_asked_for_and_nobody_is_snubbed_for_it() {
    // A block takes 16 s.
    let settings = Settings { download_limit: Some(1024), ..Desk::settings() };
    let mut desk = desk(&[100], &[], settings);
    let all: Vec<u32> = (0..100).collect();
    let givers = [1, 2, 3].map(|number| desk.giver(number, &all));
    desk.pass(1);
    let asked = givers.map(|giver| desk.requests(giver).len());
    assert_eq!(asked, [1, 0, 0]);
    let is_snubbed = |desk: &Desk| desk.swarm.peers.get(givers[0]).unwrap().snubbed;
    for _ in 0..70 {
        desk.swarm.lies_unread(desk.now, givers[0], BLOCK.into());
        desk.pass(1);
    }
    assert!(!is_snubbed(&desk), "what it was asked for lies here");
    desk.pass(28);
    assert!(!is_snubbed(&desk));
    desk.pass(2);
    assert!(is_snubbed(&desk));
}

#[test]
fn a_limit_is_shared_by_those_who_give_on_whichever_core_and_covers_their_delay() {
    let [mut one, mut other] = two(64 * BLOCK, 100);
    let all: Vec<u32> = (0..100).collect();
    [&mut one, &mut other]
        .into_iter()
        .for_each(|desk| own(desk).download_limit = Some(64 * u64::from(BLOCK)));
    let giver = one.giver(1, &all);
    let most = |desk: &Desk, slot| desk.swarm.peers.get(slot).unwrap().requests.most;
    one.pass(1);
    assert_eq!(most(&one, giver), 128, "two seconds of it");
    // A block that takes a second to come.
    let block = one.requests(giver)[0];
    one.now += Duration::from_secs(1);
    one.block_comes(giver, block);
    one.pass(1);
    assert_eq!(most(&one, giver), 192);
    let second = other.giver(2, &all);
    other.pass(1);
    one.pass(1);
    assert_eq!([most(&one, giver), most(&other, second)], [96, 64]);
}

#[test]
fn by_a_low_download_limit_peers_fill_few_pieces_together_and_without_one_each_its_own() {
    let all: Vec<u32> = (0..50).collect();
    // So many pieces of 1 MiB come in ten seconds.
    for (limit, most) in [(Some(50_000), 1), (Some(400_000), 3), (None, 20)] {
        let mut desk = Desk::new(64 * BLOCK, 50, &[]);
        (own(&mut desk).download_limit, own(&mut desk).most_peers) = (limit, 50);
        desk.window = Some(3);
        let givers: Vec<PeerSlot> = (1..=20).map(|number| desk.giver(number, &all)).collect();
        let asked = givers.into_iter().flat_map(|giver| desk.requests(giver));
        let pieces: BTreeSet<u32> = asked.map(|(piece, _)| piece).collect();
        assert_eq!(pieces.len(), most, "{limit:?}: {pieces:?}");
        let other = all.iter().find(|piece| !pieces.contains(piece)).unwrap();
        let poor = desk.giver(21, &[*other]);
        // By then nothing is on its way, it seems.
        desk.now += Duration::from_secs(2);
        assert_eq!(desk.requests(poor), [0, 1, 2].map(|block| (*other, block)), "who has nothing else");
    }
}

#[test]
fn by_a_low_download_limit_a_core_helps_another_before_it_begins_a_piece() {
    let [mut one, mut other] = two(64 * BLOCK, 50);
    [&mut one, &mut other].into_iter().for_each(|desk| own(desk).download_limit = Some(50_000));
    let all: Vec<u32> = (0..50).collect();
    let first = one.giver(1, &all);
    let begun = one.requests(first)[0].0;
    let helper = other.giver(2, &all);
    assert_eq!(other.requests(helper), [], "it looks for something to help with");
    nudge(&mut other, &mut one);
    nudge(&mut one, &mut other);
    let asked = other.requests(helper);
    assert!(asked.len() == 16 && asked.iter().all(|(piece, _)| *piece == begun), "{asked:?}");
    // Who has nothing of that begins another piece after a while.
    let poor = other.giver(3, &[49 - begun]);
    assert_eq!(other.requests(poor), []);
    other.pass(2);
    assert_eq!(other.requests(poor)[0].0, 49 - begun);
}

/// Its own piece is all asked for, and late; there are others to begin.
#[test]
fn a_core_that_looks_for_something_to_help_with_asks_for_nothing_twice_instead() {
    let [_one, mut desk] = two(16 * BLOCK, 50);
    own(&mut desk).download_limit = Some(10_000);
    let all: Vec<u32> = (0..50).collect();
    let [mute, other] = [1, 2].map(|number| desk.giver(number, &all));
    let begun = desk.requests(mute)[0].0;
    for _ in 0..20 {
        desk.now += Duration::from_secs(2);
        desk.requests(mute);
    }
    assert_eq!(desk.requests(other), []);
    desk.now += Duration::from_secs(1);
    assert_ne!(desk.requests(other)[0].0, begun);
}

#[test]
fn filtered_addresses_are_neither_dialled_nor_let_in() {
    let filter = Some(Arc::new(IpFilter::parse(b"127.0.0.0/8").unwrap()));
    let mut desk = desk(&[1], &[], Settings { filter, ..Desk::settings() });
    desk.swarm.add_candidate(([127, 0, 0, 9], 7).into(), Source::Given);
    desk.swarm.add_candidate(([10, 0, 0, 9], 7).into(), Source::Given);
    desk.pass(1);
    assert_eq!(desk.wishes(), [Wish::Dial(([10, 0, 0, 9], 7).into())]);
    assert_eq!(desk.connect(false, 1), Err(DropReason::Filtered));
    assert_eq!(desk.swarm.totals().limits.filtered, 2);
}

#[test]
fn who_has_nothing_to_trade_for_ten_minutes_goes() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    let useless = desk.connect(false, 1).unwrap();
    let taker = desk.taker(2);
    let giver = desk.connect(true, 3).unwrap();
    desk.hear(giver, Message::Have(1));
    for _ in 0..599 {
        desk.pass(1);
        [useless, taker, giver].into_iter().for_each(|peer| desk.hear(peer, Message::KeepAlive));
    }
    assert_eq!(desk.drops(), []);
    desk.pass(2);
    assert_eq!(desk.drops(), [(useless, DropReason::Idle)]);
    assert_eq!(desk.swarm.totals().limits.idle, 1);
}

#[test]
fn worlds_in_which_some_want_only_a_part_or_want_it_in_order_end_well() {
    for seed in 0..40 {
        println!("seed {seed}");
        let leech = |skips, sequential| NodePlan {
            has: Has::Nothing,
            cores: 1 + seed as usize % 3,
            skips,
            sequential,
            ..NodePlan::seed()
        };
        let nodes = vec![
            NodePlan::seed(),
            leech(Some(1), false),
            leech(Some(0), true),
            leech(None, true),
            leech(None, false),
        ];
        let mut plan = Plan::quiet(seed, 40_000, 1, nodes);
        plan.layout = Arc::new(Layout::new(40_000, [700_001, 900_002, 50_003]).unwrap());
        let mut world = World::new(plan);
        world.run();
        let layout = Arc::clone(&world.nodes[0].layout);
        for node in &world.nodes {
            let selection = &node.host.commons.selection;
            let needless =
                node.host.verified.borrow().iter().filter(|piece| !selection.wants(**piece)).count();
            assert_eq!(needless, 0, "pieces that nobody wants are not fetched");
            assert_eq!(selection.wanted() == layout.piece_count(), node.plan.skips.is_none());
        }
    }
}
