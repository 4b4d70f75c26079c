//! Giving and taking back upload slots. The ranking is in `choker`, what the cores share in `slots`.

use super::choker::{self, Contender, Rule};
use super::peer::Peer;
use super::slots::{Answer, Poll, Verdict};
use super::spreading::HOARD;
use super::{PeerSlot, Swarm, Tag};
use crate::metainfo::Layout;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// A poll is not waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Fewest slots of a download whose upload has no limit.
pub(super) const FEWEST: usize = 8;

/// Where this core stands in the rounds.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// When core 0 calls the next poll.
    next: Duration,
    /// When the poll was called that core 0 waits for.
    polling: Option<Duration>,
    /// The poll that was answered last, and when.
    answered: u64,
    answered_at: Duration,
    verdict: Verdict,
    optimistic: Vec<Tag>,
    /// Bytes a second that went up, all cores together, when last asked.
    up: Option<u64>,
    /// This core's peers that want a slot and have none, and that have one and do not want it.
    waiting: u32,
    unused: u32,
}

/// A peer that has a slot and asks for nothing for so long may have to give it to another.
const UNASKED: Duration = Duration::from_secs(3);

/// Most time that a peer keeps its slot for the rest of a piece.
const GRACE: Duration = Duration::from_secs(30);

/// Most steps that a seed holds against a peer: newcomers are soon where those are who have nobody to give anything to.
const MOST_HELD: u32 = 4;

/// A seed has whoever has waited so long for a turn wait no longer, whatever it owes.
const PARDON: Duration = Duration::from_secs(300);

/// What a peer counts as: whether it waits for a slot, whether it has one that it does not use.
fn standing(peer: &Peer) -> (bool, bool) {
    let waits = peer.interested && !peer.unchoked && !peer.dropped;
    (waits, peer.unchoked && (!peer.interested || peer.idles))
}

/// What the peer owes, in steps: to us, or of a seed's pieces to the others.
pub(super) fn debt(now: Duration, peer: &Peer, seeding: bool) -> u32 {
    let pardoned = !peer.unchoked && now >= peer.unchoked_since + PARDON;
    match (seeding, pardoned) {
        (true, true) => 0,
        (true, false) if peer.passes_on => (peer.held / HOARD).min(MOST_HELD),
        (true, false) => peer.taken.max(peer.held / HOARD).min(MOST_HELD),
        (false, _) => peer.debt(),
    }
}

/// Whether the peer has the piece that it is being sent before its time is over, as far as can be told.
fn ends_in_time(now: Duration, peer: &Peer, layout: &Layout) -> bool {
    let left =
        peer.serving.map_or(0, |(piece, sent)| u64::from(layout.piece_len(piece)).saturating_sub(sent));
    let rate = peer.up.get();
    let begins = rate == 0 && now < peer.unchoked_since + UNASKED;
    begins || (rate > 0 && left <= rate * GRACE.as_secs())
}

fn recount(counter: &mut u32, before: bool, after: bool) {
    *counter = *counter + u32::from(after) - u32::from(before);
}

impl Swarm {
    /// Changes what the peer's slot depends on, and keeps count.
    pub(super) fn alter(&mut self, slot: PeerSlot, change: impl FnOnce(&mut Peer)) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let (before, had) = (standing(peer), peer.unchoked);
        change(peer);
        let (after, has) = (standing(peer), peer.unchoked);
        let slots = &self.commons.slots;
        if peer.owed && (!after.0 || has) {
            peer.owed = false;
            // The debts of a verdict that is yet to be read are settled when it is.
            slots.settle_debt(self.rounds.verdict.call);
        }
        slots.count_waiting(before.0, after.0);
        slots.count_unused(before.1, after.1);
        recount(&mut self.rounds.waiting, before.0, after.0);
        recount(&mut self.rounds.unused, before.1, after.1);
        if had && !has {
            slots.give();
            self.nudge |= slots.waiting() > self.rounds.waiting;
        }
    }

    /// The peer is interested in what we have, or is no more.
    pub(super) fn hear_interest(&mut self, now: Duration, slot: PeerSlot, interested: bool) {
        let had_all = !interested && self.peers.get(slot).is_some_and(|peer| peer.interested);
        self.alter(slot, |peer| peer.interested = interested);
        if !interested {
            self.clear_uploads(slot, true);
        }
        if had_all {
            self.note_had_all(now, slot);
        }
        self.fill_free_slots(now, Some(slot));
    }

    /// Notes whether a peer makes use of its slot. All that we have for it may be on its way from others: interested as it
    /// says it is, it asks for nothing, and the slot would lie idle until the next round.
    pub(super) fn note_use(&mut self, now: Duration, slot: PeerSlot) {
        let Some(peer) = self.peers.get(slot).filter(|peer| peer.unchoked) else { return };
        if peer.leaves.is_some() && peer.serving.is_none() || peer.leaves.is_some_and(|at| now >= at) {
            return self.set_unchoked(now, slot, false);
        }
        let served = peer.uploads.is_empty() && peer.leaving == 0;
        let idles = served && now >= peer.last_asked.max(peer.unchoked_since) + UNASKED;
        if idles != peer.idles {
            self.alter(slot, |peer| peer.idles = idles);
        }
    }

    /// Chokes a peer when it has the whole piece that it is being sent. A piece that is broken off is worth nothing to
    /// it for as long as nobody else has it, and others ask for all of it again. Who gives nothing has no such time when somebody
    /// waits who gives; nor has who would not have its piece by then, but from a seed, whose piece nobody else may have.
    fn let_go(&mut self, now: Duration, slot: PeerSlot) {
        let seeding = self.is_seeding();
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let ousted = self.rounds.verdict.ousted.contains(&peer.tag);
        let in_time = seeding || ends_in_time(now, peer, &self.layout);
        match (peer.serving, peer.leaves) {
            (Some(_), None) if !ousted && in_time => peer.leaves = Some(now + GRACE),
            (Some(_), Some(at)) if !ousted && now < at => {}
            _ => self.set_unchoked(now, slot, false),
        }
    }

    /// Chokes or unchokes a peer. To unchoke it, a slot has been taken.
    pub(super) fn set_unchoked(&mut self, now: Duration, slot: PeerSlot, unchoked: bool) {
        self.alter(slot, |peer| {
            (peer.unchoked, peer.unchoked_since, peer.idles) = (unchoked, now, false);
            peer.choked_at = if unchoked { peer.choked_at } else { Some(now) };
            (peer.serving, peer.leaves) = (None, None);
        });
        if unchoked {
            self.suggest(slot);
        } else {
            self.unsuggest(slot);
        }
        if !unchoked {
            self.clear_uploads(slot, false);
        }
        self.wake(slot);
    }

    /// Gives free slots at once: to those who were chosen in the last round, then to those who give most, then to those who
    /// have waited longest; slots of peers that do not want theirs are free, when somebody else does. `news`: who may have begun
    /// to wait just now.
    pub(super) fn fill_free_slots(&mut self, now: Duration, news: Option<PeerSlot>) {
        if self.rounds.unused > 0 && self.commons.slots.waiting() > 0 && !self.commons.slots.has_room() {
            self.take_back_unused(now);
        }
        while self.rounds.waiting > 0 && self.commons.slots.has_room() {
            let Some((slot, owed)) = self.longest_waiting(now, news) else { return };
            if !self.commons.slots.take(owed) {
                return;
            }
            self.set_unchoked(now, slot, true);
        }
        // Another core may hold slots for nothing.
        self.nudge |= self.rounds.waiting > 0 && self.commons.slots.unused() > self.rounds.unused;
    }

    fn longest_waiting(&self, now: Duration, news: Option<PeerSlot>) -> Option<(PeerSlot, bool)> {
        let alone =
            news.filter(|_| self.rounds.waiting == 1).and_then(|slot| Some((slot, self.peers.get(slot)?)));
        if let Some((slot, peer)) = alone.filter(|(_, peer)| standing(peer).0) {
            return Some((slot, peer.owed));
        }
        let waiting = self.peers.iter().filter(|(_, peer)| standing(peer).0);
        let seeding = self.is_seeding();
        let gives = |peer: &Peer| Reverse(if seeding { 0 } else { peer.trade });
        let longest = waiting
            .min_by_key(|(_, peer)| (!peer.owed, gives(peer), debt(now, peer, seeding), peer.unchoked_since));
        longest.map(|(slot, peer)| (slot, peer.owed))
    }

    fn take_back_unused(&mut self, now: Duration) {
        let unused = self.peers.iter().filter(|(_, peer)| standing(peer).1).map(|(slot, _)| slot);
        let most = self.commons.slots.waiting() as usize;
        let unused: Vec<PeerSlot> = unused.take(most).collect();
        unused.into_iter().for_each(|slot| self.set_unchoked(now, slot, false));
    }

    // ---- rounds ----

    /// Takes part in the rounds of choking, as far as it can be gone now.
    pub(super) fn choke(&mut self, now: Duration) {
        if self.core == 0 && self.rounds.polling.is_none() && now >= self.rounds.next {
            self.rounds.next = now + choker::ROUND;
            self.rounds.polling = Some(now);
            self.commons.slots.call();
            self.nudge = true;
        }
        if self.rounds.answered < self.commons.slots.called() {
            self.answer_poll(now);
        }
        if let Some(since) = self.rounds.polling
            && let Some(poll) = self.commons.slots.collect(now >= since + PATIENCE)
        {
            self.rounds.polling = None;
            self.rounds.up = Some(poll.up);
            self.rank(poll);
        }
        if let Some(verdict) = self.commons.slots.verdict(self.rounds.verdict.call) {
            self.rounds.verdict = verdict;
            self.apply_verdict(now);
        }
        self.fill_free_slots(now, None);
    }

    fn answer_poll(&mut self, now: Duration) {
        self.peers.iter_mut().for_each(|(_, peer)| peer.measure_trade(now));
        let (all, seeding) = (self.layout.piece_count().max(1), self.is_seeding());
        let contenders = self.peers.iter().filter(|(_, peer)| peer.interested && !peer.dropped);
        let contenders = contenders.map(|(_, peer)| Contender {
            tag: peer.tag,
            down: peer.trade,
            up: peer.up.get(),
            unchoked: peer.unchoked,
            since: now.saturating_sub(peer.unchoked_since),
            age: now.saturating_sub(peer.since),
            debt: debt(now, peer, seeding),
            is_creditor: peer.is_creditor(),
            begins: peer.begins(self.layout.piece_length()),
            nears_first: !seeding && peer.nears_first(self.layout.piece_length(), choker::FIRST_TURN),
            progress: (u64::from(peer.has.count()) * 1000 / u64::from(all)) as u32,
        });
        let contenders = contenders.collect();
        let up = self.peers.iter().map(|(_, peer)| peer.up.get()).sum();
        let taken = self.peers.iter().filter(|(_, peer)| peer.unchoked).count() as u32;
        let call = self.commons.slots.called();
        self.commons.slots.answer(self.core, Answer { call, contenders, up, taken });
        (self.rounds.answered, self.rounds.answered_at) = (call, now);
        self.nudge |= self.core != 0;
    }

    /// Ranks the peers of all cores that have answered, for the slots that the others do not have.
    fn rank(&mut self, Poll { contenders, late, kept, .. }: Poll) {
        let slots = self.slot_count();
        self.commons.slots.set_limit(slots);
        let slots = slots.saturating_sub(kept);
        let rule = if self.is_seeding() { Rule::Seed(self.settings.seed_choker) } else { Rule::Trade };
        let all = contenders.clone();
        // Those who have a slot by chance on a core that is late keep it with the others there.
        let optimistic = &mut self.rounds.optimistic;
        let unheard: Vec<Tag> = optimistic.extract_if(.., |tag| late.contains(&tag.core())).collect();
        let chosen = choker::round(contenders, slots, rule, optimistic, &mut self.rng);
        optimistic.extend(unheard);
        let chosen: HashSet<Tag> = chosen.into_iter().collect();
        let owed = all.iter().filter(|c| !c.unchoked && chosen.contains(&c.tag)).map(|c| c.tag);
        let owed = Arc::new(owed.collect());
        let ousted = if rule == Rule::Trade { choker::ousted(&all, &chosen, slots) } else { HashSet::new() };
        let (chosen, ousted, late) = (Arc::new(chosen), Arc::new(ousted), Arc::new(late));
        self.commons.slots.post(Verdict { chosen, ousted, owed, late, ..Verdict::default() });
        self.nudge = true;
    }

    fn apply_verdict(&mut self, now: Duration) {
        let (chosen, asked_at) = (self.rounds.verdict.chosen.clone(), self.rounds.answered_at);
        let call = self.rounds.verdict.call;
        if self.rounds.verdict.late.contains(&self.core) {
            // Nobody has asked who is here. What was kept for them before is kept for others now.
            return self.peers.iter_mut().for_each(|(_, peer)| peer.owed = false);
        }
        self.settle_for_gone();
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            // Who has got a free slot since the poll was not ranked: the next round will see.
            let had_one = peer.unchoked && peer.unchoked_since < asked_at;
            let is_chosen = chosen.contains(&peer.tag);
            // Who had a slot when it was asked has nothing kept for it, whatever has become of that.
            let is_owed = self.rounds.verdict.owed.contains(&peer.tag);
            // What was kept for it is kept for others now.
            peer.owed &= is_chosen;
            match is_chosen {
                false if had_one => self.let_go(now, slot),
                // Else, of many who give alike, another one would begin to leave at every round, and none would end.
                true if had_one && !self.commons.slots.is_in_debt() => peer.leaves = None,
                true if had_one => {}
                true if !had_one && standing(peer).0 => peer.owed = is_owed,
                true if !had_one && is_owed => self.commons.slots.settle_debt(call),
                _ => {}
            }
        }
    }

    /// Who was chosen and has left since the poll takes no slot any more.
    fn settle_for_gone(&mut self) {
        let ours = self.rounds.verdict.owed.iter().filter(|tag| tag.core() == self.core);
        let gone = ours.filter(|tag| self.peers.find(**tag).is_none()).count();
        (0..gone).for_each(|_| self.commons.slots.settle_debt(self.rounds.verdict.call));
        self.nudge |= gone > 0 && self.commons.slots.waiting() > self.rounds.waiting;
    }

    /// How many upload slots there are to be, on all cores together: what the capacity is worth. When that is not limited,
    /// a seed serves as many as it may; a download measures what goes up.
    pub(super) fn slot_count(&self) -> usize {
        let most = if self.is_seeding() { self.settings.seed_slots } else { self.settings.slots };
        match (self.settings.upload_limit, self.rounds.up) {
            (Some(limit), _) => choker::slots_for(limit).min(most),
            (None, Some(up)) if !self.is_seeding() => choker::slots_for(up).max(FEWEST).min(most),
            _ => most,
        }
    }

    /// There may be more slots to give than before.
    pub(super) fn revise_slots(&mut self) {
        let slots = self.slot_count();
        self.nudge |= self.commons.slots.set_limit(slots);
    }
}
