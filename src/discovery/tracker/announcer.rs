//! When to ask which tracker of a torrent (BEP 3, BEP 12). A machine of values: time comes in as an argument,
//! randomness as a seed.

use super::announce::Event;
use std::time::{Duration, Instant};

/// How often to ask.
#[derive(Clone, Copy, Debug)]
pub struct AnnouncerConfig {
    /// Whether each tracker of each tier is asked, instead of one that works (the choice of those who use this type:
    /// one [`Announcer`] asks one at a time).
    pub to_all: bool,
    /// Shortest interval believed; a tracker that names a shorter one is asked this often.
    pub shortest_interval: Duration,
    /// Shortest time believed that a tracker wants between two announces when peers are wished for.
    pub shortest_min_interval: Duration,
    /// Interval when the tracker names none.
    pub default_interval: Duration,
    /// Least time between two announces when the tracker names no `min interval`.
    pub default_min_interval: Duration,
    /// Wait after all trackers failed for the first time; doubles each time.
    pub first_retry: Duration,
    /// Longest wait after a failure.
    pub longest_retry: Duration,
}

impl Default for AnnouncerConfig {
    fn default() -> Self {
        Self {
            to_all: false,
            shortest_interval: Duration::from_secs(300),
            shortest_min_interval: Duration::from_secs(30),
            default_interval: Duration::from_secs(30 * 60),
            default_min_interval: Duration::from_secs(60),
            first_retry: Duration::from_secs(5),
            longest_retry: Duration::from_secs(30 * 60),
        }
    }
}

/// What happens to an [`Announcer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The announce under way succeeded; the fields are those of the reply.
    Succeeded {
        /// When the tracker wants the next announce.
        interval: Option<Duration>,
        /// How soon the tracker allows it.
        min_interval: Option<Duration>,
        /// To be sent back to this tracker.
        tracker_id: Option<Vec<u8>>,
    },
    /// The announce under way failed.
    Failed,
    /// Likewise, and the tracker is not to be asked again for so long, whatever there is to tell it.
    Refused {
        /// From now on.
        wait: Duration,
    },
    /// The download became complete. Only the first one counts, and none when it was complete at the start.
    Completed,
    /// More peers would be welcome. May be said as often as one likes: it only pulls the next announce forward,
    /// never before the tracker's `min interval`, and each time in a row by less.
    WantPeers,
    /// There are peers enough for now: the next wish is the first of a row.
    HasPeers,
}

/// An announce to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The announce URL.
    pub url: String,
    /// What to tell.
    pub event: Option<Event>,
    /// What this tracker called us.
    pub tracker_id: Option<Vec<u8>>,
}

/// Last words to one tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The announces, in their order.
    pub words: Vec<Due>,
    /// Whether it has accepted an announce before. Else it may have.
    pub heard_of_us: bool,
}

/// A tracker that was told of us, and is to hear when we leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its announce URL.
    pub url: String,
    /// Whether it has accepted that. Else it may have.
    pub heard_of_us: bool,
    /// What it called us.
    pub tracker_id: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Tracker {
    url: String,
    /// It was told of us before this session, by the same name from the same place; and whether it has accepted that.
    knew_us: Option<bool>,
    /// It has accepted an announce of this session.
    knows_us: bool,
    /// Before this no announce without an event.
    not_before: Option<Instant>,
    /// Before this no announce at all, but for last words: so it has said itself.
    barred: Option<Instant>,
    tracker_id: Option<Vec<u8>>,
}

/// Place of a tracker: tier, then index in it.
type Place = (usize, usize);

#[derive(Debug)]
enum State {
    /// There is nobody to ask.
    Idle,
    /// Between two rounds; the next begins at `at`, and by request already at `wished`, the first request of a row at `earliest`.
    Waiting { at: Instant, wished: Instant, earliest: Instant },
    /// In a round, which goes on with the tracker at this place.
    Asking(Place),
    /// In a round, an announce to the tracker at this place is under way.
    UnderWay(Place, Option<Event>),
}

/// The schedule of one torrent's announces. One is under way at a time.
///
/// A *round* walks the trackers in the order of their tiers until one accepts; that one moves to the front of its
/// tier (BEP 12). When all fail, the next round waits 5 s, and twice as long each time after that.
#[derive(Debug)]
pub struct Announcer {
    config: AnnouncerConfig,
    tiers: Vec<Vec<Tracker>>,
    state: State,
    completed: Completed,
    failed_rounds: u32,
    /// Peers have been wished for since the last success, and there are not enough yet.
    wish: bool,
    /// Successes in a row for which that was so, and which changed nothing about it: where nobody is left, asking as often as we
    /// may does not help.
    vain_wishes: u32,
    raised: u64,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completed {
    No,
    /// Complete, and still to be told.
    ToTell,
    /// Told, or complete from the start.
    Done,
}

impl Announcer {
    /// A schedule that begins at `now`. Each tier is shuffled once. `complete` when nothing is left to download.
    pub fn new(
        config: AnnouncerConfig,
        tiers: Vec<Vec<String>>,
        complete: bool,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let tracker = |url| Tracker {
            url,
            knew_us: None,
            knows_us: false,
            not_before: None,
            barred: None,
            tracker_id: None,
        };
        let mut tiers: Vec<Vec<Tracker>> =
            tiers.into_iter().map(|tier| tier.into_iter().map(tracker).collect()).collect();
        tiers.retain(|tier| !tier.is_empty());
        tiers.iter_mut().for_each(|tier| rng.shuffle(tier));
        let state = if tiers.is_empty() { State::Idle } else { State::waiting_until(now) };
        let completed = if complete { Completed::Done } else { Completed::No };
        Self {
            config,
            tiers,
            state,
            completed,
            failed_rounds: 0,
            wish: false,
            vain_wishes: 0,
            raised: 0,
            rng,
        }
    }

    /// Changes state.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Succeeded { interval, min_interval, tracker_id } => {
                self.succeeded(now, interval, min_interval, tracker_id);
            }
            Input::Failed => self.failed(None),
            Input::Refused { wait } => self.failed(Some(now + wait)),
            Input::Completed => {
                if self.completed == Completed::No {
                    self.completed = Completed::ToTell;
                    self.tell_completed(now);
                }
            }
            Input::WantPeers => {
                if let State::Waiting { at, wished, earliest } = &mut self.state {
                    // Where nothing can be pulled forward, a wish changes nothing.
                    self.wish |= *earliest < *at;
                    *at = (*at).min(*wished);
                }
            }
            Input::HasPeers => {
                (self.wish, self.vain_wishes) = (false, 0);
                if let State::Waiting { wished, earliest, .. } = &mut self.state {
                    *wished = *earliest;
                }
            }
        }
    }

    /// The announce to make now, if there is one. It is then under way until [`Input::Succeeded`], [`Input::Failed`] or
    /// [`Input::Refused`].
    pub fn next(&mut self, now: Instant) -> Option<Due> {
        match self.state {
            State::Waiting { at, .. } if at <= now => self.ask(now, (0, 0)),
            State::Asking(place) => self.ask(now, place),
            State::Idle | State::Waiting { .. } | State::UnderWay(..) => None,
        }
    }

    /// When [`next`](Self::next) has something to say if nothing happens until then.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { at, .. } => Some(at),
            State::Idle | State::Asking(_) | State::UnderWay(..) => None,
        }
    }

    /// The URLs of all trackers.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.tiers.iter().flatten().map(|tracker| tracker.url.as_str())
    }

    /// How often a tracker has named a shorter time than is believed.
    pub fn raised(&self) -> u64 {
        self.raised
    }

    /// Trackers that were told of us before, by the same name from the same place: they hear the last words in any case.
    pub fn know_us(&mut self, told: &[Told]) {
        for tracker in self.tiers.iter_mut().flatten() {
            if let Some(told) = told.iter().find(|told| told.url == tracker.url) {
                (tracker.knew_us, tracker.tracker_id) = (Some(told.heard_of_us), told.tracker_id.clone());
            }
        }
    }

    /// Those that know us, or may.
    pub fn told(&self) -> impl Iterator<Item = Told> {
        self.hearers().map(|tracker| Told {
            url: tracker.url.clone(),
            heard_of_us: tracker.has_heard(),
            tracker_id: tracker.tracker_id.clone(),
        })
    }

    fn hearers(&self) -> impl Iterator<Item = &Tracker> {
        let asked = match self.state {
            State::UnderWay((tier, index), _) => Some(self.tiers[tier][index].url.as_str()),
            State::Idle | State::Waiting { .. } | State::Asking(_) => None,
        };
        let all = self.tiers.iter().flatten();
        all.filter(move |tracker| {
            tracker.has_heard() || tracker.knew_us.is_some() || asked == Some(tracker.url.as_str())
        })
    }

    /// Whether a tracker is just being told of the completion.
    pub fn tells_completion(&self) -> bool {
        matches!(self.state, State::UnderWay(_, Some(Event::Completed)))
    }

    /// What to tell when the torrent stops, to each tracker that knows of us and to those whose answer nobody has heard. A
    /// completion that was not told yet goes to the first of them before `stopped`: to one that has answered this session, if any has.
    pub fn goodbyes(&self) -> Vec<Goodbye> {
        let mut told: Vec<_> = self.hearers().collect();
        told.sort_by_key(|tracker| (!tracker.knows_us, !tracker.has_heard()));
        let mut to_tell = self.completed == Completed::ToTell;
        let goodbyes = told.into_iter().map(|tracker| {
            let completed = std::mem::take(&mut to_tell).then_some(Event::Completed);
            let words = completed.into_iter().chain([Event::Stopped]);
            let words = words.map(|event| tracker.due(Some(event))).collect();
            Goodbye { words, heard_of_us: tracker.has_heard() }
        });
        goodbyes.collect()
    }

    /// Goes on with a round at `place`: the next tracker that may be asked, or the end of the round.
    fn ask(&mut self, now: Instant, place: Place) -> Option<Due> {
        let (mut tier, mut index) = place;
        while let Some(trackers) = self.tiers.get(tier) {
            let Some(tracker) = trackers.get(index) else {
                (tier, index) = (tier + 1, 0);
                continue;
            };
            let event = self.event_for(tracker);
            let may_be_asked = event.is_some() || tracker.not_before.is_none_or(|at| at <= now);
            if may_be_asked && tracker.barred.is_none_or(|at| at <= now) {
                self.state = State::UnderWay((tier, index), event);
                return Some(tracker.due(event));
            }
            index += 1;
        }
        // Nor is there a round before somebody may be asked.
        let free = self.tiers.iter().flatten().map(|tracker| tracker.barred.unwrap_or(now)).min();
        let at = (now + self.back_off()).max(free.unwrap_or(now));
        // A wish for peers does not shorten it: a tracker that is down stays down.
        self.state = State::waiting_until(at);
        None
    }

    fn back_off(&mut self) -> Duration {
        let doubled = self.config.first_retry.saturating_mul(1 << self.failed_rounds.min(20));
        self.failed_rounds += 1;
        doubled.min(self.config.longest_retry).mul_f64(0.75 + 0.5 * self.rng.f64())
    }

    /// The announce under way failed: the round goes on. The tracker is not asked before `barred`.
    fn failed(&mut self, barred: Option<Instant>) {
        let State::UnderWay((tier, index), _) = self.state else { return };
        self.tiers[tier][index].barred = barred;
        self.state = State::Asking((tier, index + 1));
    }

    fn event_for(&self, tracker: &Tracker) -> Option<Event> {
        match (tracker.knows_us, self.completed) {
            (false, _) => Some(Event::Started),
            (true, Completed::ToTell) => Some(Event::Completed),
            (true, _) => None,
        }
    }

    fn succeeded(
        &mut self,
        now: Instant,
        interval: Option<Duration>,
        min_interval: Option<Duration>,
        tracker_id: Option<Vec<u8>>,
    ) {
        let State::UnderWay((tier, index), event) = self.state else { return };
        let config = &self.config;
        let wait = interval.unwrap_or(config.default_interval);
        let named = wait.max(min_interval.unwrap_or_default());
        let wait = named.max(config.shortest_interval);
        let too_short = [
            interval.is_some() && named < config.shortest_interval,
            min_interval.is_some_and(|least| least < config.shortest_min_interval),
        ];
        self.raised += too_short.map(u64::from).iter().sum::<u64>();
        // Its own interval, even a short one, is leave enough to come then if there is a reason to.
        let least = min_interval.unwrap_or(config.default_min_interval).min(named);
        let least = least.max(config.shortest_min_interval).min(wait);
        let earliest = now + least;
        self.vain_wishes = if std::mem::take(&mut self.wish) { self.vain_wishes + 1 } else { 0 };
        // Up to what the tracker itself calls regular.
        let patience = least.saturating_mul(1 << self.vain_wishes.min(20)).min(named).max(least);
        let tracker = &mut self.tiers[tier][index];
        tracker.knows_us = true;
        tracker.not_before = Some(earliest);
        // An earlier id stays valid until the tracker gives a new one.
        tracker.tracker_id = tracker_id.or(tracker.tracker_id.take());
        self.tiers[tier][..=index].rotate_right(1);
        self.failed_rounds = 0;
        self.state = State::Waiting { at: now + wait, wished: now + patience, earliest };
        if event == Some(Event::Completed) {
            self.completed = Completed::Done;
        }
        self.tell_completed(now);
    }

    /// Begins a round at once when there is a completion to tell; no `min interval` holds up an event.
    fn tell_completed(&mut self, now: Instant) {
        if let State::Waiting { at, .. } = &mut self.state
            && self.completed == Completed::ToTell
        {
            *at = (*at).min(now);
        }
    }
}

impl State {
    /// Until then, whatever is wished for.
    fn waiting_until(at: Instant) -> Self {
        Self::Waiting { at, wished: at, earliest: at }
    }
}

impl Tracker {
    fn has_heard(&self) -> bool {
        self.knows_us || self.knew_us == Some(true)
    }

    fn due(&self, event: Option<Event>) -> Due {
        Due { url: self.url.clone(), event, tracker_id: self.tracker_id.clone() }
    }
}
