//! Upload slots, which the cores of a torrent have in common: how many there are, how many are taken, and the poll by
//! which once a round all interested peers are ranked together, whichever cores they are on.
//!
//! Core 0 calls the poll; every core answers with its peers that want a slot; core 0 ranks them and posts who shall
//! have one. A core that is late for the poll leaves its slots as they are. Between rounds a core gives free slots to its own
//! peers, at the price of one exchange.

use super::Tag;
use super::choker::Contender;
use super::commons::unpoisoned;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// So many peers that wait are no crowd yet.
const FEW: u32 = 2;

/// What a core answers to a poll.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Which poll.
    pub(super) call: u64,
    pub(super) contenders: Vec<Contender>,
    /// Bytes a second that go to all its peers.
    pub(super) up: u64,
    /// How many of its peers have a slot.
    pub(super) taken: u32,
}

/// What all cores have answered to a poll.
#[derive(Debug, Default)]
pub(super) struct Poll {
    pub(super) contenders: Vec<Contender>,
    /// Bytes a second that go up; of a core that is late, as it said last.
    pub(super) up: u64,
    /// Cores that have not answered in time, and the slots that they have.
    pub(super) late: HashSet<usize>,
    pub(super) kept: usize,
}

/// Who shall have a slot until the next round.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub(super) call: u64,
    pub(super) chosen: Arc<HashSet<Tag>>,
    /// Who must give its slot back at once, in the middle of a piece or not.
    pub(super) ousted: Arc<HashSet<Tag>>,
    /// Who is chosen and had none when it was asked for.
    pub(super) owed: Arc<HashSet<Tag>>,
    /// Cores that were not heard: nothing is said of their peers.
    pub(super) late: Arc<HashSet<usize>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Slots {
    limit: AtomicU32,
    taken: AtomicU32,
    /// Slots kept for peers that were chosen and have not got theirs yet: of another that has to give it back first.
    owed: AtomicU32,
    /// Peers that want a slot and have none.
    waiting: AtomicU32,
    /// Peers that have a slot and do not want it now.
    unused: AtomicU32,
    call: AtomicU64,
    answers: Box<[Mutex<Answer>]>,
    verdict: Mutex<Verdict>,
}

impl Slots {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            limit: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            owed: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            unused: AtomicU32::new(0),
            call: AtomicU64::new(0),
            answers: (0..cores).map(|_| Mutex::default()).collect(),
            verdict: Mutex::default(),
        }
    }

    // ---- between rounds ----

    /// Says how many there are; `true` when that is more than before.
    pub(super) fn set_limit(&self, slots: usize) -> bool {
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        self.limit.swap(slots, Ordering::AcqRel) < slots
    }

    /// Takes a free slot, or one that is `owed` to who takes it.
    pub(super) fn take(&self, owed: bool) -> bool {
        let limit = self.limit.load(Ordering::Acquire);
        let kept = if owed { 0 } else { self.owed.load(Ordering::Acquire) };
        let take = |taken: u32| (taken.saturating_add(kept) < limit).then(|| taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    /// How many are taken, and how many there are.
    pub(super) fn counts(&self) -> (u32, u32) {
        (self.taken.load(Ordering::Acquire), self.limit.load(Ordering::Acquire))
    }

    /// Peers that have a slot and want it, or wait for one, on all cores.
    pub(super) fn takers(&self) -> u32 {
        let (taken, _) = self.counts();
        taken.saturating_sub(self.unused()) + self.waiting()
    }

    /// Whether one could be taken.
    pub(super) fn has_room(&self) -> bool {
        self.taken.load(Ordering::Acquire) < self.limit.load(Ordering::Acquire)
    }

    /// Gives a slot back.
    pub(super) fn give(&self) {
        let before = self.taken.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a slot is given back that nobody has");
    }

    /// One who was chosen by the verdict of that poll has got its slot, or does not want it any more. A later verdict has counted
    /// anew.
    pub(super) fn settle_debt(&self, call: u64) {
        // Held, so that no verdict is posted in between.
        let verdict = unpoisoned(&self.verdict);
        if verdict.call != call {
            return;
        }
        let _ = self.owed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |owed| owed.checked_sub(1));
    }

    /// Whether somebody who was chosen waits for a slot.
    pub(super) fn is_in_debt(&self) -> bool {
        self.owed.load(Ordering::Acquire) > 0
    }

    /// Counts peers that begin or cease to wait for a slot.
    pub(super) fn count_waiting(&self, before: bool, after: bool) {
        count(&self.waiting, before, after);
    }

    /// Counts peers that begin or cease to have a slot that they do not want.
    pub(super) fn count_unused(&self, before: bool, after: bool) {
        count(&self.unused, before, after);
    }

    /// Peers that wait, on all cores.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Whether more peers wait than there are slots: then nobody is served out of turn (BEP 6 leaves that to us). A crowd of
    /// newcomers would ask a lone seed for its few allowed pieces over and over.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting() > self.limit.load(Ordering::Acquire).max(FEW)
    }

    /// Peers that do not want their slots, on all cores.
    pub(super) fn unused(&self) -> u32 {
        self.unused.load(Ordering::Acquire)
    }

    // ---- rounds ----

    /// Calls a poll.
    pub(super) fn call(&self) {
        self.call.fetch_add(1, Ordering::AcqRel);
    }

    /// The number of the last poll.
    pub(super) fn called(&self) -> u64 {
        self.call.load(Ordering::Acquire)
    }

    pub(super) fn answer(&self, core: usize, answer: Answer) {
        *unpoisoned(&self.answers[core]) = answer;
    }

    /// The answers of all cores to the last poll; `None` while one is still to come, unless it is `late`.
    pub(super) fn collect(&self, late: bool) -> Option<Poll> {
        let call = self.called();
        if !late && self.answers.iter().any(|answer| unpoisoned(answer).call < call) {
            return None;
        }
        let (mut poll, mut taken) = (Poll::default(), 0);
        for (core, answer) in self.answers.iter().enumerate() {
            let mut answer = unpoisoned(answer);
            poll.up += answer.up;
            // What it says of an older poll is not true any more.
            let contenders = std::mem::take(&mut answer.contenders);
            if answer.call < call {
                poll.late.insert(core);
            } else {
                poll.contenders.extend(contenders);
                taken += answer.taken;
            }
        }
        if !poll.late.is_empty() {
            poll.kept = self.counts().0.saturating_sub(taken) as usize;
        }
        Some(poll)
    }

    /// Posts who shall have slots.
    pub(super) fn post(&self, verdict: Verdict) {
        let mut posted = unpoisoned(&self.verdict);
        self.owed.store(u32::try_from(verdict.owed.len()).unwrap_or(u32::MAX), Ordering::Release);
        *posted = Verdict { call: self.called(), ..verdict };
    }

    /// The last verdict, when it is younger than that of the poll `after`.
    pub(super) fn verdict(&self, after: u64) -> Option<Verdict> {
        let verdict = unpoisoned(&self.verdict);
        (verdict.call > after).then(|| verdict.clone())
    }
}

fn count(counter: &AtomicU32, before: bool, after: bool) {
    match (before, after) {
        (false, true) => _ = counter.fetch_add(1, Ordering::AcqRel),
        (true, false) => _ = counter.fetch_sub(1, Ordering::AcqRel),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_there_are_and_those_owed_are_kept() {
        let slots = Slots::new(1);
        assert!(slots.set_limit(3) && !slots.set_limit(3) && !slots.set_limit(2));
        assert!(slots.take(false));
        let owed = Arc::new(HashSet::from([Tag { core: 0, number: 1 }]));
        slots.post(Verdict { owed, ..Verdict::default() });
        assert!(!slots.take(false), "the last one is kept for who was chosen");
        assert!(slots.take(true) && !slots.take(true));
        slots.settle_debt(0);
        slots.settle_debt(0);
        slots.give();
        assert!(slots.take(false) && !slots.has_room());
    }

    #[test]
    fn a_debt_of_an_older_verdict_is_none_of_the_last() {
        let slots = Slots::new(1);
        for call in 1..3 {
            slots.call();
            let owed = Arc::new(HashSet::from([Tag { core: 0, number: 1 }]));
            slots.post(Verdict { owed, ..Verdict::default() });
            slots.settle_debt(call - 1);
            assert!(slots.is_in_debt());
        }
        slots.settle_debt(2);
        assert!(!slots.is_in_debt());
    }

    #[test]
    fn a_poll_waits_for_all_cores_unless_one_is_late() {
        let slots = Slots::new(2);
        slots.call();
        let answer = |up| Answer { call: slots.called(), up, taken: 1, ..Answer::default() };
        slots.set_limit(3);
        assert!((0..3).all(|_| slots.take(false)));
        slots.answer(0, answer(5));
        assert!(slots.collect(false).is_none());
        let poll = slots.collect(true).unwrap();
        assert_eq!((poll.up, poll.late, poll.kept), (5, HashSet::from([1]), 2));
        slots.answer(1, answer(7));
        let poll = slots.collect(false).unwrap();
        assert_eq!((poll.up, poll.late, poll.kept), (12, HashSet::new(), 0));
        assert!(slots.verdict(0).is_none());
        slots.post(Verdict::default());
        assert!(slots.verdict(0).is_some() && slots.verdict(1).is_none());
    }
}
