//! Whom the user names, and others under the same name: strangers who would keep it out, and itself, when it dials us, too.

use super::desk::{BLOCK, Desk, bits, id, own};
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

fn dials(wishes: Vec<Wish>) -> Vec<SocketAddr> {
    let dialled = |wish| if let Wish::Dial(addr) = wish { Some(addr) } else { None };
    wishes.into_iter().filter_map(dialled).collect()
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
        assert_eq!(desk.drops(), [], "they might be one");
        desk.pass(1);
        assert_eq!(desk.drops(), [(mute, DropReason::Duplicate)]);
        desk.swarm.gone(desk.now, mute);
        desk.hear(seed, Message::Unchoke);
        assert_eq!(desk.requests(seed), [(0, 0)]);
        assert!(desk.block_comes(seed, (0, 0)).1);
    }
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
        for addr in dials(wishes) {
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
            desk.now = Duration::from_millis(self.now);
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
                kept = if pair.now == 100_000 { open.first().copied() } else { kept };
            }
            let dials = pair.lines.len();
            assert_eq!(open, Vec::from_iter(kept), "{way} {begins:?} {claims}: {dials} dials");
            assert!(kept.is_some() && dials < 40, "{way} {begins:?} {claims}: {dials} dials");
        }
    }
}
