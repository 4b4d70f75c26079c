//! Who gets an upload slot (BEP 3: choking and optimistic unchoking).

use super::PeerSlot;
use std::time::Duration;

/// Time between two rounds.
pub(super) const ROUND: Duration = Duration::from_secs(10);
/// How long an optimistic unchoke lasts, and how long a seed lets one peer hold a slot that others wait for.
const TURN: Duration = Duration::from_secs(30);
/// A peer this young is three times as likely to get the optimistic slot: it has nothing to trade yet.
const NEW: Duration = Duration::from_secs(60);

/// An interested peer, as the choker sees it.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) peer: PeerSlot,
    /// Bytes a second that it sends us.
    pub(super) rate: u64,
    /// Whether it has a slot now, and for how long it has had or not had one.
    pub(super) unchoked: bool,
    pub(super) since: Duration,
    /// Time since it connected.
    pub(super) age: Duration,
}

/// Says who has a slot until the next round. When downloading, those who send us most, and one by chance, for a
/// turn; when seeding, everybody in turn.
pub(super) fn round(
    mut contenders: Vec<Contender>,
    slots: usize,
    seeding: bool,
    optimistic: &mut Option<PeerSlot>,
    rng: &mut fastrand::Rng,
) -> Vec<PeerSlot> {
    if contenders.len() <= slots {
        return contenders.into_iter().map(|contender| contender.peer).collect();
    }
    if seeding {
        contenders.sort_by_key(|c| (!(c.unchoked && c.since < TURN), c.unchoked, std::cmp::Reverse(c.since)));
        return contenders.into_iter().take(slots).map(|c| c.peer).collect();
    }
    contenders.sort_by_key(|c| (std::cmp::Reverse(c.rate), !c.unchoked));
    let rest = contenders.split_off(slots.saturating_sub(1));
    let kept = rest.iter().find(|c| Some(c.peer) == *optimistic && c.unchoked && c.since < TURN);
    *optimistic = kept.map(|c| c.peer).or_else(|| draw(&rest, rng));
    contenders.into_iter().map(|c| c.peer).chain(*optimistic).take(slots).collect()
}

fn draw(contenders: &[Contender], rng: &mut fastrand::Rng) -> Option<PeerSlot> {
    let weight = |c: &Contender| if c.age < NEW { 3 } else { 1 };
    let mut ticket = rng.u64(..contenders.iter().map(weight).sum::<u64>().max(1));
    contenders
        .iter()
        .find(|c| {
            let drawn = ticket < weight(c);
            ticket = ticket.saturating_sub(weight(c));
            drawn
        })
        .map(|c| c.peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(peer: u32, rate: u64, unchoked: bool, since: u64) -> Contender {
        let (peer, since) = (PeerSlot::for_test(peer), Duration::from_secs(since));
        Contender { peer, rate, unchoked, since, age: Duration::from_secs(100) }
    }

    fn numbers(slots: Vec<PeerSlot>) -> Vec<u32> {
        slots.into_iter().map(PeerSlot::index).collect()
    }

    #[test]
    fn everybody_when_there_is_room() {
        let all = vec![contender(0, 0, false, 0), contender(1, 5, false, 0)];
        assert_eq!(numbers(round(all, 2, false, &mut None, &mut fastrand::Rng::with_seed(0))), [0, 1]);
    }

    #[test]
    fn downloading_pays_back_and_keeps_one_slot_for_chance() {
        let all: Vec<_> = (0..6).map(|n| contender(n, u64::from(n) * 10, false, 0)).collect();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut optimistic = None;
        let first = numbers(round(all.clone(), 3, false, &mut optimistic, &mut rng));
        assert_eq!(first[..2], [5, 4]);
        let lucky = optimistic.unwrap();
        assert!(lucky.index() < 4 && first.len() == 3);
        let again: Vec<_> =
            all.iter().map(|c| Contender { unchoked: c.peer == lucky, ..c.clone() }).collect();
        round(again.clone(), 3, false, &mut optimistic, &mut rng);
        assert_eq!(optimistic, Some(lucky), "its turn is not over");
        let over = |c: &Contender| Contender { since: TURN, ..c.clone() };
        let drawn: std::collections::HashSet<_> = (0..50)
            .map(|_| {
                round(again.iter().map(over).collect(), 3, false, &mut optimistic, &mut rng);
                optimistic.unwrap().index()
            })
            .collect();
        assert_eq!(drawn.len(), 4, "everybody outside the regular slots is drawn sooner or later");
    }

    #[test]
    fn seeding_gives_everybody_a_turn() {
        let mut rng = fastrand::Rng::with_seed(0);
        let all = vec![
            contender(0, 0, true, 31),
            contender(1, 0, true, 5),
            contender(2, 0, false, 40),
            contender(3, 0, false, 50),
        ];
        assert_eq!(numbers(round(all, 2, true, &mut None, &mut rng)), [1, 3]);
    }
}
