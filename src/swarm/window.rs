//! How many requests to keep open with a peer: what it sends in the time that a request takes to be answered, and a reserve.

use crate::metainfo::BLOCK_LEN;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Fewest requests kept open, and most, whatever the peer allows. Two keep any link busy that is slow enough to be worth no
/// more; each one more is a block that waits at a slow peer while a faster one might send it.
pub(super) const BOUNDS: RangeInclusive<usize> = 2..=2000;
/// Requests that a peer takes which has not said how many (BEP 10 has no default; clients in use take this many at least).
pub(super) const DEFAULT_MOST: usize = 250;
/// Windows narrower than this say nothing of a peer's way: where links are shared by many, few are wider, and each peer's rate goes up
/// and down by chance.
const WIDE: usize = 16;
/// First window.
const FIRST: usize = 4;
/// The window covers this much time beyond the delay: disks and links have moods.
const RESERVE: Duration = Duration::from_secs(2);
/// This much does where each request more is one too many.
const LEAST_RESERVE: Duration = Duration::from_millis(500);
/// Longer delays are not believed.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How often slow start looks whether more requests have brought more.
const LOOK: Duration = Duration::from_secs(1);
/// So often it is looked whether the peer still answers as soon as it did; in so many terms on end it must not have.
const TERM: Duration = Duration::from_secs(3);
const TERMS: u32 = 2;
/// After a trial of a longer delay that has brought nothing, the next comes this much later; one that is kept has to prove itself
/// after that, and then ever more seldom, against one that is a step shorter.
const REST: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_secs(1);

/// Slow start first: one request more for each block that comes, which doubles the window every round trip, until the rate
/// grows no more. Then bandwidth times delay.
#[derive(Debug)]
pub(super) struct Window {
    /// The window of slow start, until it is over.
    start: Option<usize>,
    /// When slow start looked last, and the rate then.
    looked: Option<(Duration, u64)>,
    /// The shortest time that a request took: later ones wait behind others.
    delay: Option<Duration>,
    /// The shortest of this term, since when, and terms on end in which it was longer than what the window covers.
    term: (Option<Duration>, Duration, u32),
    /// Blocks that have come in this term and in the last, and bytes a second by the two before: of answers that come in waves the
    /// rate of the moment says little.
    came: [u64; 2],
    steady: u64,
    trial: Option<Trial>,
    /// When there may be a trial again.
    rested: Duration,
    /// The delay before the longer one that is kept, and how long that rests between its proofs.
    kept: Option<(Duration, Duration)>,
    /// Most that our own limits leave it.
    pub(super) most: usize,
    /// Memory is scarce: the window covers no more than this time, and does not try whether more requests bring more.
    pub(super) scarce: Option<Duration>,
}

/// Answers take longer than the window covers. Either the peer sends less, and they wait in its queue; or they have a longer way, and
/// we ask for too little, and then for less still, because less comes. A longer delay is believed for a while: if that brings
/// more, it is the second. But the peer may also have begun to send more by itself meanwhile, and then a window that wide is what
/// makes the queue. So now and then a delay a step shorter is believed: if answers take longer than that covers all the same, it is
/// their way.
#[derive(Debug)]
struct Trial {
    until: Duration,
    /// The delay and the rate before.
    delay: Duration,
    rate: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            start: Some(FIRST),
            looked: None,
            delay: None,
            term: (None, Duration::ZERO, 0),
            came: [0; 2],
            steady: 0,
            trial: None,
            rested: Duration::ZERO,
            kept: None,
            most: *BOUNDS.end(),
            scarce: None,
        }
    }
}

impl Window {
    /// One that begins with so many.
    #[cfg(test)]
    pub(super) fn beginning(size: usize) -> Self {
        Self { start: Some(size), ..Self::default() }
    }

    /// A block has come that was asked for then.
    pub(super) fn block_came(&mut self, now: Duration, asked: Option<Duration>) {
        self.start = self.start.map(|size| (size + 1).min(*BOUNDS.end()));
        self.looked.get_or_insert((now, 0));
        self.came[0] += 1;
        if let Some(time) = asked.map(|asked| now.saturating_sub(asked)) {
            let shorter = |least: Option<Duration>| Some(least.map_or(time, |least| least.min(time)));
            (self.delay, self.term.0) = (shorter(self.delay), shorter(self.term.0));
        }
    }

    /// What a request takes that waits behind no other: the peer's doing, and its way's.
    pub(super) fn delay(&self) -> Duration {
        self.delay.unwrap_or_default().min(LONGEST_DELAY)
    }

    /// The peer gives us a slot: what its last one was worth says little, so slow start begins anew.
    pub(super) fn restart(&mut self) {
        (self.start, self.looked) = (Some(FIRST), None);
        self.end_trial();
    }

    /// The peer does not send what it was asked for: it begins again from few.
    pub(super) fn shrink(&mut self) {
        self.start = None;
        self.end_trial();
    }

    /// Time has passed; the peer sends so many bytes a second.
    pub(super) fn tick(&mut self, now: Duration, rate: u64) {
        self.look_at_delay(now);
        self.look_at_start(now, rate);
    }

    /// Whether the peer still answers in the time that the window covers.
    fn look_at_delay(&mut self, now: Duration) {
        let (least, since, terms) = self.term;
        if now < since + TERM {
            return;
        }
        let [fresh, before] = self.came;
        self.came = [0, fresh];
        self.steady = (fresh + before) * u64::from(BLOCK_LEN) / (now - since + TERM).as_secs().max(1);
        let longer = least.filter(|least| *least > (RESERVE + self.delay()) * 65 / 64);
        self.term = (None, now, if longer.is_some() { terms + 1 } else { 0 });
        if let Some(trial) = self.trial.take_if(|trial| now >= trial.until) {
            return self.judge_trial(now, &trial, longer.is_some());
        }
        let calm =
            self.trial.is_none() && self.start.is_none() && now >= self.rested && self.scarce.is_none();
        if !calm || self.worth(self.steady) < WIDE {
            return;
        }
        if let Some(longer) = longer.filter(|_| self.term.2 >= TERMS) {
            self.try_delay(now, longer);
        } else if let Some((shortest, _)) = self.kept {
            self.try_delay(now, self.delay().saturating_sub(STEP).max(shortest));
        }
    }

    fn try_delay(&mut self, now: Duration, delay: Duration) {
        // It is judged by a term that begins when all has come that was asked for before.
        let until = now + self.delay().max(delay).min(LONGEST_DELAY) + RESERVE + TERM;
        self.trial = self.delay.replace(delay).map(|delay| Trial { until, delay, rate: self.steady });
    }

    fn judge_trial(&mut self, now: Duration, trial: &Trial, takes_longer: bool) {
        self.rested = now + REST;
        if self.delay() > trial.delay {
            self.judge_longer(trial)
        } else {
            self.judge_shorter(now, trial, takes_longer)
        }
    }

    /// Whether the longer delay has brought more.
    fn judge_longer(&mut self, trial: &Trial) {
        if self.steady < trial.rate + trial.rate / 8 {
            self.delay = Some(trial.delay);
        } else {
            self.kept = Some((self.kept.map_or(trial.delay, |(shortest, _)| shortest), REST));
        }
    }

    /// Whether answers take longer than the shorter delay covers.
    fn judge_shorter(&mut self, now: Duration, trial: &Trial, takes_longer: bool) {
        let Some((shortest, rest)) = self.kept else { return };
        if takes_longer {
            self.delay = Some(trial.delay);
            (self.kept, self.rested) = (Some((shortest, rest * 2)), now + rest * 2);
        } else if self.delay() <= shortest {
            self.kept = None;
        } else {
            self.rested = now;
        }
    }

    /// What is on trial is not believed after all, for want of a verdict: the shorter delay stays.
    fn end_trial(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.delay = self.delay.map(|tried| tried.min(trial.delay));
        }
    }

    /// Whether slow start is over.
    fn look_at_start(&mut self, now: Duration, rate: u64) {
        let Some((looked, before)) = self.looked.filter(|_| self.start.is_some()) else { return };
        if now < looked + LOOK {
            return;
        }
        // Less than an eighth more: what is asked for above this only waits at the peer.
        if before > 0 && rate < before + before / 8 {
            self.start = None;
        }
        self.looked = Some((now, rate));
    }

    /// Requests to keep open at this rate (bytes a second).
    pub(super) fn size(&self, rate: u64) -> usize {
        let is_long = self.trial.is_some() || self.kept.is_some();
        let rate = if is_long { rate.max(self.steady) } else { rate };
        self.worth(rate).min(self.most.clamp(1, *BOUNDS.end()))
    }

    /// What comes in the time of the reserve, and of the delay, when that is the peer's doing: by a low limit of our own it is not.
    pub(super) fn covers(&self, rate: u64, with_delay: bool) -> usize {
        let time = RESERVE + if with_delay { self.delay() } else { Duration::ZERO };
        // Behind a longer way as much as lets the rate grow.
        let most = |scarce: Duration| scarce.max(self.delay() * 3 / 2);
        blocks_in(self.scarce.map_or(time, |scarce| time.min(most(scarce))), rate)
    }

    /// As many as are on their way at this rate, there and back.
    pub(super) fn on_the_way(&self, rate: u64) -> usize {
        blocks_in(self.delay(), rate)
    }

    /// As few as keep the peer sending at this rate.
    pub(super) fn least(&self, rate: u64) -> usize {
        blocks_in(LEAST_RESERVE + self.delay(), rate)
    }

    /// As many as it would be good to keep open, were there no limit.
    pub(super) fn worth(&self, rate: u64) -> usize {
        let start = self.start.filter(|_| self.scarce.is_none());
        self.covers(rate, true).max(start.unwrap_or(0)).max(*BOUNDS.start())
    }
}

/// How many blocks come in that time at that rate.
fn blocks_in(time: Duration, rate: u64) -> usize {
    let bytes = u128::from(rate) * time.as_millis() / 1000;
    usize::try_from(bytes / u128::from(BLOCK_LEN)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A peer's link: blocks a second, and milliseconds of delay, from some second on.
    type Link<'a> = &'a [(u32, u64, u64)];

    /// A peer behind that link, asked for as much as the window says, for so long. Gives the window in the end, the
    /// seconds it took to use nine tenths of the link, and the rate in the end, in blocks a second.
    fn run(link: Link, most: usize, seconds: u32) -> (usize, Option<u32>, u64) {
        let mut window = Window { most, ..Window::default() };
        let mut measured = crate::swarm::rate::Rate::default();
        let step = Duration::from_millis(10);
        let (mut waiting, mut arrivals) = (VecDeque::new(), VecDeque::new());
        let (mut sent, mut full_at) = (0.0, None);
        for tick in 0..seconds * 100 {
            let now = step * tick;
            let (_, rate, delay) = *link.iter().rfind(|(from, ..)| *from <= tick / 100).unwrap();
            while arrivals.front().is_some_and(|(at, _)| *at <= now) {
                let (_, asked) = arrivals.pop_front().unwrap();
                measured.add(BLOCK_LEN.into());
                window.block_came(now, Some(asked));
            }
            if tick % 50 == 0 {
                measured.tick(now);
                window.tick(now, measured.get());
            }
            let open = waiting.len() + arrivals.len();
            waiting.extend(std::iter::repeat_n(now, window.size(measured.get()).saturating_sub(open)));
            // What it sends in this step.
            sent = if waiting.is_empty() { 0.0 } else { sent + rate as f64 / 100.0 };
            while sent >= 1.0 && !waiting.is_empty() {
                sent -= 1.0;
                arrivals.extend(waiting.pop_front().map(|asked| (now + Duration::from_millis(delay), asked)));
            }
            if measured.get() * 10 >= rate * 9 * u64::from(BLOCK_LEN) {
                full_at = full_at.or(Some(tick / 100));
            }
        }
        (window.size(measured.get()), full_at, measured.get() / u64::from(BLOCK_LEN))
    }

    #[test]
    fn a_link_is_filled_soon_whatever_its_delay_and_not_flooded() {
        for (rate, delay, most) in [(50, 20, 2000), (400, 20, 2000), (400, 1500, 2000), (400, 300, 2000)] {
            let (size, full, _) = run(&[(0, rate, delay)], most, 30);
            let expected = rate * (2000 + delay) / 1000;
            assert!(full.is_some_and(|second| second < 20), "{rate} {delay}: {full:?}");
            assert!(
                (expected * 9 / 10..=expected * 11 / 10 + 8).contains(&(size as u64)),
                "{rate} {delay}: {size}"
            );
        }
    }

    #[test]
    fn our_own_limits_leave_so_many() {
        for (most, left) in [(250, 250), (10_000, 2000), (3, 3)] {
            assert_eq!(run(&[(0, 2000, 20)], most, 20).0, left);
        }
    }

    #[test]
    fn a_way_that_grows_longer_is_filled_again() {
        for delay in [2150, 2300, 2500, 3500, 4200, 4500] {
            for rate in [24, 40, 64, 300] {
                let (.., end) = run(&[(0, rate, 50), (8, rate, delay)], 2000, 70);
                assert!(end * 10 >= rate * 9, "{rate} {delay}: {end}");
            }
        }
    }

    #[test]
    fn a_peer_that_comes_to_send_less_is_not_asked_for_more() {
        for (rate, less) in [(400, 200), (400, 40), (64, 8), (100, 3)] {
            let (size, ..) = run(&[(0, rate, 50), (10, less, 50)], 2000, 120);
            assert!(size as u64 <= less * 23 / 10 + 2, "{rate} {less}: {size}");
        }
        let falling: Vec<_> = (0..60).map(|second| (second, 400 - 6 * u64::from(second), 50)).collect();
        let (size, ..) = run(&falling, 2000, 60);
        assert!(size < 400, "a trial may be under way, of 46 a second: {size}");
    }

    /// When it sends again as before, the window must not have taken that for its own doing.
    #[test]
    fn a_peer_that_sends_less_for_a_while_is_not_asked_for_more_afterwards() {
        let lulls = |every: u32, len: u32, rate: u64| {
            let starts = (20..200).step_by(every as usize);
            let lulls = starts.flat_map(move |start| [(start, rate, 50), (start + len, 400, 50)]);
            [(0, 400, 50)].into_iter().chain(lulls).collect::<Vec<_>>()
        };
        for (every, len, rate) in [(200, 5, 200), (40, 5, 200), (20, 4, 133), (200, 3, 0), (200, 20, 40)] {
            let (size, ..) = run(&lulls(every, len, rate), 2000, 374);
            assert!(size < 920, "{rate} for {len} s every {every} s: {size} of 400 a second");
        }
    }
}
