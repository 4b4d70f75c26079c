//! Who gets an upload slot (BEP 3: choking and optimistic unchoking), as a function of who wants one.

use super::Tag;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

/// Time between two rounds.
pub(super) const ROUND: Duration = Duration::from_secs(10);
/// How long an optimistic unchoke lasts, and how long one peer may hold a slot for nothing in return that others wait for.
const TURN: Duration = Duration::from_secs(30);
/// How long it goes on for who has nothing yet and is getting its first piece: a part of a piece cannot be traded.
pub(super) const FIRST_TURN: Duration = Duration::from_secs(120);
/// When we download, one of so many slots goes by chance.
const ONE_BY_CHANCE_IN: usize = 5;
/// A peer this young is three times as likely to get the optimistic slot: it has nothing to trade yet.
const NEW: Duration = Duration::from_secs(60);

/// How many times more likely than one who took much and gave nothing another is to get the optimistic slot: half as much for
/// each step of debt.
const GENEROUS: u64 = 16;
/// How many times more likely than one that is even with us is one that has given us more than we gave back.
const CREDITOR: u64 = 4;

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
    /// Whether it has given us much more than it has had.
    pub(super) is_creditor: bool,
    /// Whether it has had no more than one needs to begin to trade.
    pub(super) begins: bool,
    /// When we download: whether it has no piece yet, and gets its first one if its turn goes on.
    pub(super) nears_first: bool,
    /// Thousandths of the pieces that it has.
    pub(super) progress: u32,
}

impl Contender {
    /// How long its turn lasts.
    fn length(&self) -> Duration {
        if self.nears_first { FIRST_TURN } else { TURN }
    }

    /// Less means sooner: first who is in the middle of its turn, then who has waited longest.
    fn turn(&self) -> (bool, bool, Reverse<Duration>) {
        (!(self.unchoked && self.since < self.length()), self.unchoked, Reverse(self.since))
    }

    /// Whether its turn in an optimistic slot goes on. When we download, that is for whoever begins to trade: it waits for its slot,
    /// and its turn ends early when it has had much and given too little.
    fn has_luck(&self, rule: Rule) -> bool {
        match rule {
            Rule::Trade => self.begins && (!self.unchoked || self.since < self.length()),
            Rule::Seed(_) => self.unchoked && self.since < TURN,
        }
    }

    /// Thousandths of how far it is from the middle of its download.
    fn edge(&self) -> u32 {
        self.progress.abs_diff(500) * 2
    }
}

/// How many slots go by chance: of many more than one, or newcomers would wait the longer the more can be served.
pub(super) fn by_chance(slots: usize, rule: Rule) -> usize {
    match rule {
        Rule::Trade => (slots / ONE_BY_CHANCE_IN).max(1),
        Rule::Seed(_) => 1,
    }
}

/// Says who has a slot until the next round. Some slots go by chance, for a turn, when the others go by rates.
pub(super) fn round(
    mut contenders: Vec<Contender>,
    slots: usize,
    rule: Rule,
    optimistic: &mut Vec<Tag>,
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
    let lucky = by_chance(slots, rule);
    let mut rest = contenders.split_off(slots.saturating_sub(lucky));
    optimistic.retain(|tag| rest.iter().any(|c| c.tag == *tag && c.has_luck(rule)));
    optimistic.truncate(lucky);
    rest.retain(|c| !optimistic.contains(&c.tag));
    while optimistic.len() < lucky
        && let Some(at) = draw(&rest, rng)
    {
        optimistic.push(rest.remove(at).tag);
    }
    contenders.into_iter().map(|c| c.tag).chain(optimistic.iter().copied()).take(slots).collect()
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

/// Which one is drawn.
fn draw(contenders: &[Contender], rng: &mut fastrand::Rng) -> Option<usize> {
    let weight = |c: &Contender| {
        let standing = if c.is_creditor { GENEROUS * CREDITOR } else { GENEROUS >> c.debt.min(4) };
        if c.age < NEW { 3 * standing } else { standing }
    };
    let mut ticket = rng.u64(..contenders.iter().map(weight).sum::<u64>().max(1));
    contenders.iter().position(|c| {
        let drawn = ticket < weight(c);
        ticket = ticket.saturating_sub(weight(c));
        drawn
    })
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
        let (debt, is_creditor, begins, nears_first, progress) = (0, false, true, false, 500);
        Contender { tag, down, up: 0, unchoked, since, age, debt, is_creditor, begins, nears_first, progress }
    }

    fn numbers(tags: Vec<Tag>) -> Vec<u64> {
        tags.into_iter().map(|tag| tag.number).collect()
    }

    fn seed(all: Vec<Contender>, slots: usize, choker: SeedChoker) -> Vec<u64> {
        let mut rng = fastrand::Rng::with_seed(0);
        numbers(round(all, slots, Rule::Seed(choker), &mut Vec::new(), &mut rng))
    }

    #[test]
    fn everybody_when_there_is_room() {
        let all = vec![contender(0, 0, false, 0), contender(1, 5, false, 0)];
        let mut rng = fastrand::Rng::with_seed(0);
        assert_eq!(numbers(round(all, 2, Rule::Trade, &mut Vec::new(), &mut rng)), [0, 1]);
    }

    #[test]
    fn downloading_pays_back_and_keeps_one_slot_for_chance() {
        let all: Vec<_> = (0..6).map(|n| contender(n, n * 10, false, 0)).collect();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut optimistic = Vec::new();
        let first = numbers(round(all.clone(), 3, Rule::Trade, &mut optimistic, &mut rng));
        assert_eq!(first[..2], [5, 4]);
        let lucky = optimistic[0];
        assert!(lucky.number < 4 && first.len() == 3);
        (0..50).for_each(|_| _ = round(all.clone(), 3, Rule::Trade, &mut optimistic, &mut rng));
        assert_eq!(optimistic, [lucky], "it waits for its slot");
        let again: Vec<_> = all.iter().map(|c| Contender { unchoked: c.tag == lucky, ..c.clone() }).collect();
        round(again.clone(), 3, Rule::Trade, &mut optimistic, &mut rng);
        assert_eq!(optimistic, [lucky], "its turn is not over");
        let owes = |c: &Contender| Contender { begins: c.tag != lucky, ..c.clone() };
        let heirs = (0..50).map(|_| {
            let mut optimistic = vec![lucky];
            round(again.iter().map(owes).collect(), 3, Rule::Trade, &mut optimistic, &mut rng);
            optimistic[0]
        });
        assert!(
            heirs.filter(|heir| *heir != lucky).count() > 25,
            "its turn ends early when it gives nothing back"
        );
        let over = |c: &Contender| Contender { since: TURN, ..c.clone() };
        let drawn: HashSet<_> = (0..50)
            .map(|_| {
                let mut optimistic = vec![lucky];
                round(again.iter().map(over).collect(), 3, Rule::Trade, &mut optimistic, &mut rng);
                optimistic[0].number
            })
            .collect();
        assert_eq!(drawn.len(), 4, "everybody outside the regular slots is drawn sooner or later");
    }

    #[test]
    fn new_peers_are_drawn_three_times_as_often() {
        let mut rng = fastrand::Rng::with_seed(1);
        let young = Contender { age: Duration::from_secs(1), ..contender(0, 0, false, 0) };
        let all = [young, contender(1, 0, false, 0)];
        let times = (0..4000).filter(|_| draw(&all, &mut rng) == Some(0)).count();
        assert!((2850..3150).contains(&times), "{times} of 4000");
    }

    #[test]
    fn who_gave_more_than_it_got_is_drawn_four_times_as_often() {
        let mut rng = fastrand::Rng::with_seed(1);
        let all = [contender(0, 0, false, 0), Contender { is_creditor: true, ..contender(1, 0, false, 0) }];
        let times = (0..5000).filter(|_| draw(&all, &mut rng) == Some(1)).count();
        assert!((3850..4150).contains(&times), "{times} of 5000");
    }

    #[test]
    fn of_many_slots_one_in_five_goes_by_chance() {
        let all: Vec<_> = (0..40).map(|n| contender(n, 100 - n, false, 0)).collect();
        let mut rng = fastrand::Rng::with_seed(2);
        let mut lucky = Vec::new();
        let chosen = numbers(round(all.clone(), 20, Rule::Trade, &mut lucky, &mut rng));
        assert_eq!(chosen[..16], (0..16).collect::<Vec<_>>());
        let drawn: HashSet<_> = chosen[16..].iter().filter(|number| **number >= 16).collect();
        assert_eq!((chosen.len(), drawn.len()), (20, 4));
        let first = lucky.clone();
        let over = |c: &Contender| if c.tag == first[0] { TURN } else { Duration::ZERO };
        let later =
            |c: &Contender| Contender { unchoked: lucky.contains(&c.tag), since: over(c), ..c.clone() };
        let later: Vec<_> = all.iter().map(later).collect();
        round(later.clone(), 20, Rule::Trade, &mut lucky, &mut rng);
        assert_eq!((&lucky[..3], lucky.len()), (&first[1..], 4), "one turn is over, three are not");
        round(later, 10, Rule::Trade, &mut lucky, &mut rng);
        assert_eq!(lucky, first[1..3], "there are fewer slots");
        round(all, 20, Rule::Seed(SeedChoker::Fastest), &mut lucky, &mut rng);
        assert_eq!(lucky.len(), 1, "a seed");
    }

    #[test]
    fn the_turn_of_who_is_getting_its_first_piece_goes_on() {
        let kept = |nears_first, since, begins| {
            let all = (0..6).map(|n| contender(n, n * 10, n == 1, if n == 1 { since } else { 0 }));
            let all: Vec<_> = all.map(|c| Contender { nears_first, begins, ..c }).collect();
            let lucky = all[1].tag;
            let keeps = |seed| {
                let mut optimistic = vec![lucky];
                let mut rng = fastrand::Rng::with_seed(seed);
                round(all.clone(), 3, Rule::Trade, &mut optimistic, &mut rng);
                optimistic == [lucky]
            };
            (0..50).filter(|seed| keeps(*seed)).count()
        };
        assert_eq!(kept(true, 119, true), 50);
        assert!(kept(true, 120, true) < 25, "but not for ever");
        assert!(kept(false, 30, true) < 25, "it is not getting one");
        assert!(kept(true, 30, false) < 25, "it has had two pieces' worth");
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
        let chosen = numbers(round(all, 4, Rule::Trade, &mut Vec::new(), &mut rng));
        assert_eq!(chosen[..3], [0, 2, 3]);
        let all = vec![
            contender(0, 9, false, 0),
            Contender { nears_first: true, ..contender(1, 0, true, 40) },
            contender(2, 0, false, 50),
            contender(3, 0, false, 20),
        ];
        let chosen = numbers(round(all, 3, Rule::Trade, &mut Vec::new(), &mut rng));
        assert_eq!(chosen[..2], [0, 1], "it is getting its first piece");
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
