//! Whom the user names, and others under the same name: strangers who would keep it out, and itself, when it dials us, too.

use super::desk::{BLOCK, Desk, bits, dialled, id, own};
use crate::swarm::{DropReason, Introduction, PeerSlot, Source, Wish};
use crate::wire::extended::ExtendedHandshake;
use crate::wire::{Message, Reserved};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Where the desk of this number listens.
fn at(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number as u8], 7))
}

/// By an id that is greater than ours, it decides which of two connections between it and us is to stay.
#[test]
fn a_stranger_under_the_name_of_whom_the_user_names_does_not_keep_it_out() {
    for (stranger_first, dialled, port) in
        [(true, false, 9), (false, false, 9), (true, true, 9), (true, false, 7)]
    {
        let mut desk = Desk::new(BLOCK, 1, &[]);
        desk.reserved = Reserved::ours(true);
        desk.swarm.add_candidate(at(1), Source::Given);
        let reserved = desk.reserved;
        let seed = Introduction { addr: at(1), outgoing: true, id: id(200), reserved };
        let mut stranger = Introduction { outgoing: dialled, ..seed };
        stranger.addr.set_port(50_000);
        let come = |desk: &mut Desk, who: Introduction| {
            let slot = desk.swarm.connect(desk.now, who).unwrap();
            if !who.outgoing {
                let hello = ExtendedHandshake { port: Some(port), ..Default::default() };
                desk.hear(slot, Message::Extended { id: 0, payload: &hello.encode() });
            }
            desk.hear(slot, Message::HaveAll);
            slot
        };
        let first = come(&mut desk, if stranger_first { stranger } else { seed });
        desk.pass(5);
        let second = come(&mut desk, if stranger_first { seed } else { stranger });
        let (mute, seed) = if stranger_first { (first, second) } else { (second, first) };
        desk.pass(9);
        desk.hear(seed, Message::KeepAlive);
        desk.pass(1);
        assert_eq!(desk.drops(), [], "they might be one");
        desk.hear(seed, Message::KeepAlive);
        desk.pass(1);
        assert_eq!(desk.drops(), [(mute, DropReason::Duplicate)]);
        desk.swarm.gone(desk.now, mute);
        desk.hear(seed, Message::Unchoke);
        assert_eq!(desk.requests(seed), [(0, 0)]);
        assert!(desk.block_comes(seed, (0, 0)).1);
    }
}

#[test]
fn of_two_dials_to_a_peer_of_both_families_the_one_that_gives_less_goes() {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    let by_v4 = Introduction { addr: at(1), outgoing: true, id: id(200), reserved: desk.reserved };
    let by_v6 = Introduction { addr: "[2001:db8::1]:7".parse().unwrap(), ..by_v4 };
    let [first, second] = [by_v4, by_v6].map(|who| {
        let slot = desk.swarm.connect(desk.now, who).unwrap();
        desk.hear(slot, Message::Bitfield(&bits(3, &[0, 1, 2])));
        desk.hear(slot, Message::Unchoke);
        slot
    });
    let block = desk.requests(second)[0];
    assert!(desk.block_comes(second, block).1);
    desk.pass(9);
    assert_eq!(desk.drops(), []);
    desk.pass(1);
    // Its place in the list of those who are looked at decides whether it is seen at once that the other has given more.
    desk.pass(1);
    assert_eq!(desk.drops(), [(first, DropReason::Duplicate)]);
    desk.swarm.gone(desk.now, first);
    assert_eq!(desk.swarm.connect(desk.now, by_v4), Err(DropReason::Duplicate));
    desk.swarm.gone(desk.now, second);
    assert!(desk.swarm.connect(desk.now, by_v4).is_ok());
}

/// Dials somebody whom the user names, and whose id is greater than ours. Gives also how it would come to us.
fn named(desk: &mut Desk) -> (PeerSlot, Introduction) {
    desk.swarm.add_candidate(at(1), Source::Given);
    let seed = Introduction { addr: at(1), outgoing: true, id: id(200), reserved: desk.reserved };
    let slot = desk.swarm.connect(desk.now, seed).unwrap();
    let mut again = Introduction { outgoing: false, ..seed };
    again.addr.set_port(50_000);
    (slot, again)
}

#[test]
fn whose_connection_has_broken_unnoticed_is_in_anew() {
    let mut desk = Desk::new(BLOCK, 1, &[]);
    let (broken, again) = named(&mut desk);
    desk.pass(40);
    let anew = desk.swarm.connect(desk.now, again).unwrap();
    // What was under way when it broke.
    desk.hear(broken, Message::KeepAlive);
    for _ in 0..149 {
        desk.pass(1);
        desk.hear(anew, Message::KeepAlive);
        assert_eq!(desk.drops(), [], "at {:?}", desk.now);
    }
    desk.pass(2);
    assert_eq!(desk.drops(), [(broken, DropReason::Silent)]);
    desk.swarm.gone(desk.now, broken);
    desk.pass(100);
    assert_eq!(desk.drops(), []);
}

#[test]
fn who_is_in_twice_and_closes_neither_is_not_let_in_again_at_once() {
    let mut desk = Desk::new(BLOCK, 1, &[]);
    let (dialled, again) = named(&mut desk);
    let mut came = Vec::new();
    for second in 0..400 {
        if second % 10 == 5 {
            came.extend(desk.swarm.connect(desk.now, again).ok().map(|slot| (second, slot)));
        }
        desk.pass(1);
        desk.hear(dialled, Message::KeepAlive);
        for (slot, why) in desk.drops() {
            assert_eq!((Some(slot), why), (came.last().map(|(_, slot)| *slot), DropReason::Duplicate));
            desk.swarm.gone(desk.now, slot);
        }
    }
    let came: Vec<u64> = came.into_iter().map(|(second, _)| second).collect();
    assert_eq!(came, [5, 135, 265, 395], "and a while later it may, for the other may be broken then");
}

#[test]
fn a_crowd_of_strangers_does_not_keep_out_whom_the_user_names() {
    let mut desk = Desk::new(BLOCK, 1, &[]);
    own(&mut desk).most_of_host = Some(1);
    let mut stranger = Introduction { addr: at(1), outgoing: false, id: id(200), reserved: desk.reserved };
    stranger.addr.set_port(50_000);
    assert!(desk.swarm.connect(desk.now, stranger).is_ok());
    let other = Introduction { id: id(201), ..stranger };
    assert_eq!(desk.swarm.connect(desk.now, other), Err(DropReason::Crowd(1)));
    let (seed, _) = named(&mut desk);
    assert!(desk.swarm.peers.get(seed).is_some_and(|peer| !peer.dropped));
}

/// A connection between two desks: who dialled, the peer of each, and which of them have closed.
struct Line {
    dialler: usize,
    slots: [Option<PeerSlot>; 2],
    closed: [bool; 2],
}

/// What happens to a line at one of the desks.
#[derive(Clone, Copy)]
enum Event {
    Shaken,
    Heard,
    Closed,
}

/// Two programs that were told to dial each other. Each has what the other lacks, and no slot for it.
struct Pair {
    desks: [Desk; 2],
    /// Milliseconds that the way takes.
    way: u64,
    /// When each begins.
    begins: [u64; 2],
    /// Whether they say where they listen.
    claims: bool,
    lines: Vec<Line>,
    due: BTreeMap<(u64, usize), (Event, usize, usize)>,
    now: u64,
    count: usize,
}

impl Pair {
    fn new(way: u64, begins: [u64; 2], claims: bool) -> Self {
        let desk = |number: usize| {
            let mut desk = Desk::new(BLOCK, 2, &[number as u32]);
            desk.reserved = Reserved::ours(true);
            own(&mut desk).id = id([100, 200][number]);
            desk.swarm.add_candidate(at(1 - number), Source::Given);
            desk
        };
        let desks = [0, 1].map(desk);
        Self { desks, way, begins, claims, lines: Vec::new(), due: BTreeMap::new(), now: 0, count: 0 }
    }

    fn after(&mut self, ways: u64, event: (Event, usize, usize)) {
        self.count += 1;
        self.due.insert((self.now + ways * self.way, self.count), event);
    }

    fn happen(&mut self, (event, line, side): (Event, usize, usize)) {
        let (desk, outgoing) = (&mut self.desks[side], self.lines[line].dialler == side);
        let now = desk.now;
        match (event, self.lines[line].slots[side]) {
            (Event::Shaken, _) if self.now < self.begins[side] => self.lines[line].closed = [true; 2],
            (Event::Shaken, _) if self.lines[line].closed[side] => desk.swarm.dial_failed(now, at(1 - side)),
            (Event::Shaken, _) => {
                let mut addr = at(1 - side);
                addr.set_port(if outgoing { 7 } else { 50_000 + line as u16 });
                let who = Introduction { addr, outgoing, id: id([200, 100][side]), reserved: desk.reserved };
                self.lines[line].slots[side] = desk.swarm.connect(now, who).ok();
                let met = self.lines[line].slots[side].is_some();
                let next = if met { Event::Heard } else { Event::Closed };
                self.lines[line].closed[side] = !met;
                self.after(if outgoing { 1 } else { 2 }, (next, line, 1 - side));
            }
            (Event::Heard, Some(slot)) => {
                let hello = ExtendedHandshake { port: self.claims.then_some(7), ..Default::default() };
                desk.hear(slot, Message::Extended { id: 0, payload: &hello.encode() });
                desk.hear(slot, Message::Bitfield(&bits(2, &[1 - side as u32])));
                desk.hear(slot, Message::Interested);
            }
            (Event::Closed, slot) => {
                slot.into_iter().for_each(|slot| desk.swarm.gone(now, slot));
                (self.lines[line].slots[side], self.lines[line].closed[side]) = (None, true);
            }
            (Event::Heard, None) => {}
        }
    }

    /// What a desk wants.
    fn grant(&mut self, side: usize) {
        let wishes = self.desks[side].wishes();
        for wish in &wishes {
            let Wish::Drop(slot, why) = wish else { continue };
            assert_eq!(*why, DropReason::Duplicate);
            let line = self.lines.iter().position(|line| line.slots[side] == Some(*slot)).unwrap();
            self.happen((Event::Closed, line, side));
            self.after(1, (Event::Closed, line, 1 - side));
        }
        for addr in dialled(wishes) {
            assert_eq!(addr, at(1 - side));
            self.lines.push(Line { dialler: side, slots: [None; 2], closed: [false; 2] });
            let line = self.lines.len() - 1;
            self.after(1, (Event::Shaken, line, 1 - side));
            self.after(2, (Event::Shaken, line, side));
        }
    }

    /// The lines that are open at both ends, ten milliseconds later.
    fn step(&mut self) -> Vec<usize> {
        self.now += 10;
        let now = self.now;
        for (side, _) in self.begins.into_iter().enumerate().filter(|(_, begins)| now >= *begins) {
            let desk = &mut self.desks[side];
            desk.now = Duration::from_millis(now);
            if !now.is_multiple_of(500) {
                continue;
            }
            desk.swarm.tick(desk.now);
            let open: Vec<PeerSlot> = self.lines.iter().filter_map(|line| line.slots[side]).collect();
            open.into_iter().for_each(|slot| self.desks[side].hear(slot, Message::KeepAlive));
            self.grant(side);
        }
        while let Some(due) = self.due.first_entry().filter(|due| due.key().0 <= self.now) {
            let event = due.remove();
            self.happen(event);
            (0..2).for_each(|side| self.grant(side));
        }
        let open = |line: &Line| line.slots.iter().all(Option::is_some);
        (0..self.lines.len()).filter(|line| open(&self.lines[*line])).collect()
    }
}

#[test]
fn two_who_name_each_other_soon_have_one_connection_and_keep_it() {
    let begins = [[0, 0], [0, 130], [130, 0], [0, 700], [700, 0], [0, 40_000], [40_000, 0]];
    for (way, begins) in [1, 40, 300, 2000].into_iter().flat_map(|way| begins.map(|begins| (way, begins))) {
        for claims in [false, true] {
            let mut pair = Pair::new(way, begins, claims);
            let (mut open, mut kept) = (Vec::new(), None);
            while pair.now < 600_000 {
                let before = std::mem::replace(&mut open, pair.step());
                assert!(
                    before.is_empty() || !open.is_empty(),
                    "{way} {begins:?} {claims}: none at {}",
                    pair.now
                );
                // Who dials before the other has begun tries again after ten seconds at most.
                let begun = begins.into_iter().max().is_some_and(|begun| pair.now > begun + 15_000);
                assert!(!begun || !open.is_empty(), "{way} {begins:?} {claims}: none for so long");
                kept = if pair.now == 100_000 { open.first().copied() } else { kept };
            }
            let dials = pair.lines.len();
            assert_eq!(open, Vec::from_iter(kept), "{way} {begins:?} {claims}: {dials} dials");
            assert!(kept.is_some() && dials < 40, "{way} {begins:?} {claims}: {dials} dials");
        }
    }
}
