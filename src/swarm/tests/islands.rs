//! Super-seeding (BEP 16) to peers that know the seed alone, on a link of so many pieces a second.

use super::desk::{BLOCK, Desk, Said};
use super::super_seed::seed;
use crate::swarm::PeerSlot;
use crate::wire::Message;
use std::time::Duration;

const PIECES: u32 = 64;
/// Pieces a second, and steps a second.
const LINK: u32 = 16;
const STEPS: u32 = 20;

/// One that asks for what it was shown every so many steps, and not between.
struct Island {
    slot: PeerSlot,
    every: u32,
    shown: Vec<u32>,
    told: u32,
    got: u32,
    /// Most that it was shown and had not got.
    ahead: u32,
}

impl Island {
    fn comes(desk: &mut Desk, number: u8, every: u32) -> Self {
        let slot = desk.connect(false, number).unwrap();
        desk.hear(slot, Message::Interested);
        Self { slot, every, shown: Vec::new(), told: 0, got: 0, ahead: 0 }
    }

    fn asks(&mut self, desk: &mut Desk, step: u32) {
        let pieces = |said| if let Said::Have(piece) = said { Some(piece) } else { None };
        let shown: Vec<u32> = desk.say(self.slot).into_iter().filter_map(pieces).collect();
        self.told += shown.len() as u32;
        self.ahead = self.ahead.max(self.told - self.got);
        self.shown.extend(shown);
        if step.is_multiple_of(self.every) {
            self.shown.drain(..).for_each(|piece| desk.ask(self.slot, [piece, 0, BLOCK]));
        }
    }

    /// It is sent a piece, and says that it has it; or there is nothing to be sent.
    fn is_sent(&mut self, desk: &mut Desk) -> bool {
        let mut blocks = Vec::new();
        if desk.swarm.has_uploads(self.slot) {
            desk.swarm.take_upload(self.slot, BLOCK, &mut blocks);
        }
        for block in &blocks {
            desk.swarm.sent(desk.now, self.slot, BLOCK.into());
            desk.hear(self.slot, Message::Have(block.piece.get()));
            self.got += 1;
        }
        !blocks.is_empty()
    }
}

/// Until all have all; seconds.
fn serve(desk: &mut Desk, islands: &mut [Island]) -> f64 {
    let mut room = 0;
    for step in 0.. {
        islands.iter_mut().for_each(|island| island.asks(desk, step));
        room += LINK;
        let mut idle = 0;
        while room >= STEPS && idle < islands.len() {
            idle = if islands[0].is_sent(desk) { 0 } else { idle + 1 };
            room -= if idle == 0 { STEPS } else { 0 };
            islands.rotate_left(1);
        }
        room = room.min(STEPS);
        if islands.iter().all(|island| island.got == PIECES) {
            return f64::from(step) / f64::from(STEPS);
        }
        desk.now += Duration::from_secs(1) / STEPS;
        desk.swarm.tick(desk.now);
        assert!(step < 300 * STEPS, "{:?}", islands.iter().map(|island| island.got).collect::<Vec<_>>());
    }
    unreachable!("it ends or fails")
}

#[test]
fn one_that_asks_but_once_a_second_has_the_link_when_it_is_alone_whoever_was_there_before() {
    for before in [0, 2] {
        let mut desk = seed(PIECES);
        let mut late = Island::comes(&mut desk, 9, STEPS);
        let mut others: Vec<Island> = (0..before).map(|number| Island::comes(&mut desk, number, 1)).collect();
        serve(&mut desk, &mut others);
        others.into_iter().for_each(|island| desk.swarm.gone(desk.now, island.slot));
        late.shown.clear();
        let seconds = serve(&mut desk, std::slice::from_mut(&mut late));
        assert!(seconds <= 8.0, "after {before}: {seconds} s of 4 at least");
    }
}

#[test]
fn those_who_cannot_meet_have_the_link_among_them_however_seldom_they_ask() {
    for every in [&[1, 1][..], &[1, STEPS], &[STEPS; 2], &[1, 5, STEPS], &[1, 1, STEPS, STEPS]] {
        let mut desk = seed(PIECES);
        let mut islands: Vec<Island> =
            (0..).zip(every).map(|(number, every)| Island::comes(&mut desk, number, *every)).collect();
        let bound = f64::from(PIECES) * every.len() as f64 / f64::from(LINK);
        let seconds = serve(&mut desk, &mut islands);
        println!("{every:?}: {seconds} s of {bound}");
        assert!(seconds <= bound * 1.1 + 2.5, "{every:?}: {seconds} s of {bound} at least");
    }
}

#[test]
fn one_that_is_alone_is_shown_no_more_than_lasts_until_it_asks_again() {
    let ahead = [1, STEPS].map(|every| {
        let mut desk = seed(PIECES);
        let mut island = Island::comes(&mut desk, 1, every);
        serve(&mut desk, std::slice::from_mut(&mut island));
        island.ahead
    });
    assert!(ahead[0] <= 4 && (LINK / 2..=4 * LINK).contains(&ahead[1]), "{ahead:?}");
}
