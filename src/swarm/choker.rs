//! Who gets an upload slot (BEP 3: choking and optimistic unchoking), as a function of who wants one.

use super::Tag;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

/// Time between two rounds.
pub(super) const ROUND: Duration = Duration::from_secs(10);
/// How long an optimistic unchoke lasts, and how long one peer may hold a slot for nothing in return that others wait for.
const TURN: Duration = Duration::from_secs(30);
/// A peer this young is three times as likely to get the optimistic slot: it has nothing to trade yet.
const NEW: Duration = Duration::from_secs(60);

/// How many times more likely than one who took much and gave nothing another is to get the optimistic slot: half as much for
/// each step of debt.
const GENEROUS: u64 = 16;

/// Whom a seed serves when not all who are interested can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeedChoker {
    /// Everybody in turn.
    #[default]
    RoundRobin,
    /// Those who take the most bytes a second, and one by chance.
    Fastest,
    /// Those who have just begun or are about to end before those in between, who have most to trade with others.
    AntiLeech,
}

/// What a round goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Who gives us most.
    Trade,
    /// We want nothing.
    Seed(SeedChoker),
}

/// An interested peer, as the choker sees it.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) tag: Tag,
    /// Bytes a second that it sends us, and that we send it.
    pub(super) down: u64,
    pub(super) up: u64,
    /// Whether it has a slot now, and for how long it has had or not had one.
    pub(super) unchoked: bool,
    pub(super) since: Duration,
    /// Time since it connected.
    pub(super) age: Duration,
    /// How much more it takes than it gives, in steps: who owes less comes first.
    pub(super) debt: u32,
    /// Whether it has had no more than one needs to begin to trade.
    pub(super) begins: bool,
    /// Thousandths of the pieces that it has.
    pub(super) progress: u32,
}

impl Contender {
    /// Less means sooner: first who is in the middle of its turn, then who has waited longest.
    fn turn(&self) -> (bool, bool, Reverse<Duration>) {
        (!(self.unchoked && self.since < TURN), self.unchoked, Reverse(self.since))
    }

    /// Whether its turn in the optimistic slot goes on. When we download, that is for whoever begins to trade: it waits for its slot,
    /// and its turn ends early when it has had much and given too little.
    fn has_luck(&self, rule: Rule) -> bool {
        match rule {
            Rule::Trade => self.begins && (!self.unchoked || self.since < TURN),
            Rule::Seed(_) => self.unchoked && self.since < TURN,
        }
    }

    /// Thousandths of how far it is from the middle of its download.
    fn edge(&self) -> u32 {
        self.progress.abs_diff(500) * 2
    }
}

/// Says who has a slot until the next round. One slot goes by chance, for a turn, when the others go by rates.
pub(super) fn round(
    mut contenders: Vec<Contender>,
    slots: usize,
    rule: Rule,
    optimistic: &mut Option<Tag>,
    rng: &mut fastrand::Rng,
) -> Vec<Tag> {
    if contenders.len() <= slots {
        return contenders.into_iter().map(|contender| contender.tag).collect();
    }
    match rule {
        // Who gives nothing has no more right to a slot than others who give nothing.
        Rule::Trade => {
            contenders.sort_by_key(|c| (Reverse(c.down), c.debt, c.down > 0 && !c.unchoked, c.turn()));
        }
        Rule::Seed(SeedChoker::Fastest) => contenders.sort_by_key(|c| (Reverse(c.up), c.turn())),
        // In tenths, so that a piece more or less does not decide.
        Rule::Seed(SeedChoker::AntiLeech) => {
            contenders.sort_by_key(|c| (Reverse(c.edge() / 100), c.turn()));
        }
        Rule::Seed(SeedChoker::RoundRobin) => {
            contenders.sort_by_key(|c| (c.debt, c.turn()));
            return contenders.into_iter().take(slots).map(|c| c.tag).collect();
        }
    }
    let rest = contenders.split_off(slots.saturating_sub(1));
    let kept = rest.iter().find(|c| Some(c.tag) == *optimistic && c.has_luck(rule));
    *optimistic = kept.map(|c| c.tag).or_else(|| draw(&rest, rng));
    contenders.into_iter().map(|c| c.tag).chain(*optimistic).take(slots).collect()
}

/// Who of those that were not chosen must leave at once. That is nobody while only such wait who give nothing, each of whom
/// has time to end its piece. When somebody who gives is to have a slot, those who give nothing make room for all who were
/// chosen, who owes most and has had its slot longest first.
pub(super) fn ousted(contenders: &[Contender], chosen: &HashSet<Tag>, slots: usize) -> HashSet<Tag> {
    let owed = || contenders.iter().filter(|c| !c.unchoked && chosen.contains(&c.tag));
    if !owed().any(|c| c.down > 0) {
        return HashSet::new();
    }
    let free = slots.saturating_sub(contenders.iter().filter(|c| c.unchoked).count());
    let needed = owed().count().saturating_sub(free);
    let mut leave: Vec<&Contender> =
        contenders.iter().filter(|c| c.unchoked && c.down == 0 && !chosen.contains(&c.tag)).collect();
    leave.sort_by_key(|c| Reverse((c.debt, c.since)));
    leave.into_iter().take(needed).map(|c| c.tag).collect()
}

fn draw(contenders: &[Contender], rng: &mut fastrand::Rng) -> Option<Tag> {
    let weight = |c: &Contender| (if c.age < NEW { 3 } else { 1 }) * (GENEROUS >> c.debt.min(4));
    let mut ticket = rng.u64(..contenders.iter().map(weight).sum::<u64>().max(1));
    contenders
        .iter()
        .find(|c| {
            let drawn = ticket < weight(c);
            ticket = ticket.saturating_sub(weight(c));
            drawn
        })
        .map(|c| c.tag)
}

/// Slots that an upload of so many bytes a second is worth, as the first BitTorrent had it: few enough for each to be a fair
/// rate, more for faster links. 2 below 9 KiB/s, 3 below 15, 4 below 42, then the square root of 0.6 for each KiB/s:
/// 7 at 100 KiB/s, 24 at 1 MiB/s, 78 at 10 MiB/s.
pub(super) fn slots_for(rate: u64) -> usize {
    match rate / 1024 {
        0..9 => 2,
        9..15 => 3,
        15..42 => 4,
        kib => (kib.saturating_mul(6) / 10).isqrt().max(4) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(number: u64, down: u64, unchoked: bool, since: u64) -> Contender {
        let since = Duration::from_secs(since);
        let tag = Tag { core: 0, number };
        let age = Duration::from_secs(100);
        Contender { tag, down, up: 0, unchoked, since, age, debt: 0, begins: true, progress: 500 }
    }

    fn numbers(tags: Vec<Tag>) -> Vec<u64> {
        tags.into_iter().map(|tag| tag.number).collect()
    }

    fn seed(all: Vec<Contender>, slots: usize, choker: SeedChoker) -> Vec<u64> {
        let mut rng = fastrand::Rng::with_seed(0);
        numbers(round(all, slots, Rule::Seed(choker), &mut None, &mut rng))
    }

    #[test]
    fn everybody_when_there_is_room() {
        let all = vec![contender(0, 0, false, 0), contender(1, 5, false, 0)];
        let mut rng = fastrand::Rng::with_seed(0);
        assert_eq!(numbers(round(all, 2, Rule::Trade, &mut None, &mut rng)), [0, 1]);
    }

    #[test]
    fn downloading_pays_back_and_keeps_one_slot_for_chance() {
        let all: Vec<_> = (0..6).map(|n| contender(n, n * 10, false, 0)).collect();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut optimistic = None;
        let first = numbers(round(all.clone(), 3, Rule::Trade, &mut optimistic, &mut rng));
        assert_eq!(first[..2], [5, 4]);
        let lucky = optimistic.unwrap();
        assert!(lucky.number < 4 && first.len() == 3);
        (0..50).for_each(|_| _ = round(all.clone(), 3, Rule::Trade, &mut optimistic, &mut rng));
        assert_eq!(optimistic, Some(lucky), "it waits for its slot");
        let again: Vec<_> = all.iter().map(|c| Contender { unchoked: c.tag == lucky, ..c.clone() }).collect();
        round(again.clone(), 3, Rule::Trade, &mut optimistic, &mut rng);
        assert_eq!(optimistic, Some(lucky), "its turn is not over");
        let owes = |c: &Contender| Contender { begins: c.tag != lucky, ..c.clone() };
        let heirs = (0..50).map(|_| {
            let mut optimistic = Some(lucky);
            round(again.iter().map(owes).collect(), 3, Rule::Trade, &mut optimistic, &mut rng);
            optimistic.unwrap()
        });
        assert!(
            heirs.filter(|heir| *heir != lucky).count() > 25,
            "its turn ends early when it gives nothing back"
        );
        let over = |c: &Contender| Contender { since: TURN, ..c.clone() };
        let drawn: HashSet<_> = (0..50)
            .map(|_| {
                let mut optimistic = Some(lucky);
                round(again.iter().map(over).collect(), 3, Rule::Trade, &mut optimistic, &mut rng);
                optimistic.unwrap().number
            })
            .collect();
        assert_eq!(drawn.len(), 4, "everybody outside the regular slots is drawn sooner or later");
    }

    #[test]
    fn new_peers_are_drawn_three_times_as_often() {
        let mut rng = fastrand::Rng::with_seed(1);
        let young = Contender { age: Duration::from_secs(1), ..contender(0, 0, false, 0) };
        let all = [young, contender(1, 0, false, 0)];
        let times = (0..4000).filter(|_| draw(&all, &mut rng).unwrap().number == 0).count();
        assert!((2850..3150).contains(&times), "{times} of 4000");
    }

    #[test]
    fn who_gives_nothing_takes_turns_for_the_slots_that_are_left() {
        let all = vec![
            contender(0, 9, false, 0),
            contender(1, 0, true, 40),
            contender(2, 0, true, 5),
            contender(3, 0, false, 50),
            contender(4, 0, false, 20),
        ];
        let mut rng = fastrand::Rng::with_seed(0);
        let chosen = numbers(round(all, 4, Rule::Trade, &mut None, &mut rng));
        assert_eq!(chosen[..3], [0, 2, 3]);
    }

    #[test]
    fn who_gives_nothing_makes_room_for_who_gives() {
        let all = |gives| {
            vec![
                contender(0, gives, false, 40),
                contender(1, 0, false, 50),
                contender(2, 0, true, 20),
                Contender { debt: 1, ..contender(3, 0, true, 10) },
                contender(4, 0, true, 30),
                contender(5, 1, true, 90),
            ]
        };
        let out = |gives, slots, chosen: &[u64]| {
            let chosen = chosen.iter().map(|number| Tag { core: 0, number: *number }).collect();
            let mut out = numbers(ousted(&all(gives), &chosen, slots).into_iter().collect());
            out.sort_unstable();
            out
        };
        assert_eq!(out(0, 4, &[0, 1]), [0; 0], "there is time to end a piece");
        assert_eq!(out(9, 4, &[0]), [3], "who owes most");
        assert_eq!(out(9, 4, &[0, 1]), [3, 4], "then who has had its slot longest");
        assert_eq!(out(9, 4, &[0, 1, 3, 4]), [2], "but nobody who gives or was chosen");
        assert_eq!(out(9, 5, &[0, 1]), [3], "one is free");
    }

    #[test]
    fn seeding_gives_everybody_a_turn() {
        let all = vec![
            contender(0, 0, true, 31),
            contender(1, 0, true, 5),
            contender(2, 0, false, 40),
            contender(3, 0, false, 50),
        ];
        assert_eq!(seed(all, 2, SeedChoker::RoundRobin), [1, 3]);
    }

    #[test]
    fn seeding_to_the_fastest_or_against_leeches() {
        let all: Vec<_> = (0..6)
            .map(|n| Contender { up: n * 7 % 6, progress: n as u32 * 200, ..contender(n, 0, true, 99) })
            .collect();
        assert_eq!(seed(all.clone(), 3, SeedChoker::Fastest)[..2], [5, 4]);
        let mut edges = seed(all, 3, SeedChoker::AntiLeech);
        edges.truncate(2);
        edges.sort_unstable();
        assert_eq!(edges, [0, 5]);
    }

    #[test]
    fn slots_follow_the_capacity() {
        let at = |kib: u64| slots_for(kib * 1024);
        assert_eq!([1, 10, 20, 50, 100, 1024, 10 * 1024].map(at), [2, 3, 4, 5, 7, 24, 78]);
        assert_eq!(slots_for(u64::MAX), slots_for(u64::MAX - 1), "no overflow");
    }
}
