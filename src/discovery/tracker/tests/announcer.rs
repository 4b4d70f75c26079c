use crate::discovery::tracker::{Announcer, AnnouncerConfig, Due, Event, Goodbye, Input, Told};
use std::time::{Duration, Instant};

/// An announcer with a clock in seconds.
struct Table {
    announcer: Announcer,
    start: Instant,
    now: u64,
}

impl Table {
    fn new(tiers: &[&[&str]], complete: bool) -> Self {
        let tiers = tiers.iter().map(|tier| tier.iter().map(|url| (*url).to_owned()).collect()).collect();
        let start = Instant::now();
        Self {
            announcer: Announcer::new(AnnouncerConfig::default(), tiers, complete, 1, start),
            start,
            now: 0,
        }
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    fn next(&mut self) -> Option<Due> {
        self.announcer.next(self.instant())
    }

    /// Expects this announce to be made now.
    fn asks(&mut self, url: &str, event: impl Into<Option<Event>>) -> &mut Self {
        let due =
            self.next().unwrap_or_else(|| panic!("no announce at {} s: {:?}", self.now, self.announcer));
        assert_eq!((due.url.as_str(), due.event), (url, event.into()), "at {} s", self.now);
        self
    }

    fn asks_nobody(&mut self) -> &mut Self {
        assert_eq!(self.next(), None, "at {} s", self.now);
        self
    }

    /// Expects the next announce at this second.
    fn waits_until(&mut self, seconds: u64) -> &mut Self {
        assert_eq!(self.announcer.next_deadline(), Some(self.start + Duration::from_secs(seconds)));
        self
    }

    /// Expects the next announce between these seconds from now, and goes there.
    fn waits(&mut self, from: f64, to: f64) -> &mut Self {
        let deadline = self.announcer.next_deadline().expect("a deadline");
        let wait = deadline.duration_since(self.instant()).as_secs_f64();
        assert!((from..=to).contains(&wait), "waits {wait} s, not {from} to {to}");
        self.asks_nobody();
        self.now = deadline.duration_since(self.start).as_secs() + 1;
        self
    }

    fn hear(&mut self, input: Input) -> &mut Self {
        self.announcer.handle(self.instant(), input);
        self
    }

    /// Expects these last words, in any order of trackers.
    fn parts(&mut self, expected: &[(&str, &[Event])]) -> &mut Self {
        let words = |Goodbye { words, .. }: Goodbye| {
            let url = words[0].url.clone();
            assert!(words.iter().all(|due| due.url == url));
            (url, words.iter().map(|due| due.event.unwrap()).collect::<Vec<_>>())
        };
        let mut told: Vec<_> = self.announcer.goodbyes().into_iter().map(words).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        let told: Vec<_> = told.iter().map(|(url, events)| (url.as_str(), events.as_slice())).collect();
        assert_eq!(told, expected);
        self
    }

    fn ok(&mut self, interval: u64, min_interval: impl Into<Option<u64>>) -> &mut Self {
        let min_interval = min_interval.into().map(Duration::from_secs);
        self.hear(Input::Succeeded {
            interval: Some(Duration::from_secs(interval)),
            min_interval,
            tracker_id: None,
        })
    }
}

const STARTED: Event = Event::Started;
const COMPLETED: Event = Event::Completed;
const STOPPED: Event = Event::Stopped;

#[test]
fn a_download_from_start_to_stop() {
    let mut table = Table::new(&[&["a"]], false);
    table.waits_until(0).asks("a", STARTED).asks_nobody().ok(1800, None).waits_until(1800);
    table.at(1799).asks_nobody().at(1800).asks("a", None).ok(1800, None);
    table.at(2000).hear(Input::Completed).asks("a", COMPLETED).ok(1800, None).waits_until(3800);
    table.hear(Input::Completed).asks_nobody().at(3800).asks("a", None).ok(1800, None);
    table.at(3801).parts(&[("a", &[STOPPED])]);
}

#[test]
fn who_is_complete_at_the_start_never_completes() {
    let mut table = Table::new(&[&["a"]], true);
    table.asks("a", STARTED).ok(1800, None).hear(Input::Completed).asks_nobody().waits_until(1800);
}

#[test]
fn completion_waits_for_started() {
    let mut table = Table::new(&[&["a"]], false);
    table.asks("a", STARTED).hear(Input::Completed).asks_nobody().ok(1800, 900);
    table.asks("a", COMPLETED).ok(1800, 900).waits_until(1800);
}

#[test]
fn completion_is_told_again_when_it_did_not_get_through() {
    let mut table = Table::new(&[&["a"]], false);
    table
        .asks("a", STARTED)
        .ok(1800, None)
        .at(10)
        .hear(Input::Completed)
        .asks("a", COMPLETED)
        .hear(Input::Failed);
    table.asks_nobody().waits(3.75, 6.25).asks("a", COMPLETED).ok(1800, None);
    table.at(5000).asks("a", None);
}

#[test]
fn intervals_are_bounded_from_below() {
    for (interval, min_interval, wait, raised) in [
        (1, None, 300, 1),
        (0, None, 300, 1),
        (299, None, 300, 1),
        (300, Some(30), 300, 0),
        (301, None, 301, 0),
        (301, Some(29), 301, 1),
        (60, Some(90), 300, 1),
        (60, Some(400), 400, 0),
        (2, Some(5), 300, 2),
    ] {
        let mut table = Table::new(&[&["a"]], false);
        table.asks("a", STARTED).ok(interval, min_interval).waits_until(wait).at(wait).asks("a", None);
        assert_eq!(table.announcer.raised(), raised, "{interval}, {min_interval:?}");
    }
    let mut table = Table::new(&[&["a"]], false);
    table.asks("a", STARTED);
    table.hear(Input::Succeeded { interval: None, min_interval: None, tracker_id: None }).waits_until(1800);
    assert_eq!(table.announcer.raised(), 0, "none was named");
}

#[test]
fn a_wish_for_peers_respects_the_min_interval() {
    for (min_interval, earliest) in [(None, 60), (Some(100), 100), (Some(1), 30), (Some(5000), 5000)] {
        let mut table = Table::new(&[&["a"]], false);
        table.asks("a", STARTED).ok(1800, min_interval).at(10).hear(Input::WantPeers).asks_nobody();
        table.waits_until(earliest).at(earliest).asks("a", None).ok(1800, min_interval);
    }
    // A short interval is leave to come then, though nobody has to.
    let mut short = Table::new(&[&["a"]], false);
    short.asks("a", STARTED).ok(40, None).at(10).hear(Input::WantPeers).waits_until(40);
    let mut late = Table::new(&[&["a"]], false);
    late.asks("a", STARTED).ok(1800, None).at(500).hear(Input::WantPeers).asks("a", None);
}

/// Announces for so many seconds, each of which is a success, while somebody wishes for peers or has enough, as `wants` says.
fn turns(
    table: &mut Table,
    min_interval: Option<u64>,
    until: u64,
    wants: impl Fn(u64) -> Option<bool>,
) -> Vec<u64> {
    let mut turns = Vec::new();
    for now in 0..until {
        let wish = wants(now).map(|wants| if wants { Input::WantPeers } else { Input::HasPeers });
        wish.into_iter().for_each(|wish| _ = table.at(now).hear(wish));
        if table.at(now).next().is_some() {
            turns.push(now);
            table.ok(1800, min_interval);
        }
    }
    turns
}

#[test]
fn wishes_that_no_announce_fulfils_count_less_and_less() {
    let turns = |min_interval, wants: fn(u64) -> Option<bool>| {
        turns(&mut Table::new(&[&["a"]], false), min_interval, 8000, wants)
    };
    assert_eq!(turns(None, |_| Some(true)), [0, 60, 180, 420, 900, 1860, 3660, 5460, 7260]);
    assert_eq!(turns(Some(100), |_| Some(true)), [0, 100, 300, 700, 1500, 3100, 4900, 6700]);
    // Peers were met for a moment, and are gone.
    assert_eq!(
        turns(None, |now| Some(now != 500)),
        [0, 60, 180, 420, 501, 621, 861, 1341, 2301, 4101, 5901, 7701]
    );
    // A turn that nobody wished for.
    let now_and_then = |now| (!(1000..4000).contains(&now)).then_some(true);
    assert_eq!(
        turns(None, now_and_then),
        [0, 60, 180, 420, 900, 1860, 3660, 4000, 4120, 4360, 4840, 5800, 7600]
    );
    assert_eq!(turns(None, |_| Some(false)), [0, 1800, 3600, 5400, 7200]);
}

#[test]
fn failures_between_wishes_begin_no_new_row() {
    let mut table = Table::new(&[&["a"]], false);
    // Nothing could be wished for yet.
    table.asks("a", STARTED).hear(Input::Failed).asks_nobody().hear(Input::WantPeers).waits(3.75, 6.25);
    table.asks("a", STARTED).ok(1800, None);
    let start = table.now;
    table.hear(Input::WantPeers).waits_until(start + 60).at(start + 60).asks("a", None).hear(Input::Failed);
    table.asks_nobody().waits(3.75, 6.25).asks("a", None).ok(1800, None);
    let second = table.now;
    table.hear(Input::WantPeers).waits_until(second + 120);
    // A tracker that itself wants to be asked often is.
    for now in [second + 120, second + 160, second + 200] {
        table.at(now).asks("a", None).ok(40, None).hear(Input::WantPeers).waits_until(now + 40);
    }
}

#[test]
fn failures_back_off_and_wishes_do_not_help() {
    let mut table = Table::new(&[&["a"]], false);
    for wait in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 1800.0, 1800.0] {
        table.asks("a", STARTED).hear(Input::Failed).asks_nobody().hear(Input::WantPeers);
        table.waits(wait * 0.75, wait * 1.25);
    }
    // After a success it begins again with the shortest wait.
    table
        .asks("a", STARTED)
        .ok(400, None)
        .waits(400.0, 400.0)
        .asks("a", None)
        .hear(Input::Failed)
        .asks_nobody();
    table.waits(3.75, 6.25).asks("a", None);
}

/// So that clients that lost their tracker at the same time do not all come back at the same time.
#[test]
fn after_a_failure_each_waits_a_time_of_its_own() {
    let wait = |seed| {
        let (now, tiers) = (Instant::now(), vec![vec!["a".to_owned()]]);
        let mut announcer = Announcer::new(AnnouncerConfig::default(), tiers, false, seed, now);
        announcer.next(now).expect("the first announce");
        announcer.handle(now, Input::Failed);
        assert_eq!(announcer.next(now), None);
        announcer.next_deadline().expect("another try").duration_since(now).as_secs_f64()
    };
    let mut waits: Vec<f64> = (0..100).map(wait).collect();
    waits.sort_by(f64::total_cmp);
    waits.dedup();
    assert!(waits.len() > 90 && waits[0] < 4.25 && waits[waits.len() - 1] > 5.75, "{waits:?}");
}

#[test]
fn a_long_row_of_failures_does_not_overflow() {
    let mut table = Table::new(&[&["a"]], false);
    for _ in 0..100 {
        table.asks("a", STARTED).hear(Input::Failed).asks_nobody().waits(3.75, 2250.0);
    }
}

#[test]
fn the_next_tier_is_asked_only_when_the_first_fails() {
    let mut table = Table::new(&[&["a"], &["b"]], false);
    table.asks("a", STARTED).hear(Input::Failed).asks("b", STARTED).ok(1800, None);
    table.at(1800).asks("a", STARTED).hear(Input::Failed).asks("b", None).ok(1800, None);
    table.at(3600).asks("a", STARTED).ok(1800, None).asks_nobody();
    table.at(3700).parts(&[("a", &[STOPPED]), ("b", &[STOPPED])]);
}

#[test]
fn success_moves_to_the_front_of_its_tier() {
    let mut table = Table::new(&[&["a", "b", "c"]], false);
    let first = table.next().unwrap().url;
    let second = table.hear(Input::Failed).next().unwrap().url;
    let third = table.hear(Input::Failed).next().unwrap().url;
    table.ok(1800, None).at(1800).asks(&third, None).hear(Input::Failed);
    table.asks(&first, STARTED).hear(Input::Failed).asks(&second, STARTED).ok(1800, None);
    table.at(3600).asks(&second, None).hear(Input::Failed).asks(&third, None);
}

#[test]
fn a_tier_is_shuffled_but_loses_nobody() {
    let urls: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let orders: Vec<Vec<String>> = (0..2)
        .map(|seed| {
            let now = Instant::now();
            let mut announcer =
                Announcer::new(AnnouncerConfig::default(), vec![vec![], urls.clone()], false, seed, now);
            let mut order = Vec::new();
            while let Some(due) = announcer.next(now) {
                order.push(due.url);
                announcer.handle(now, Input::Failed);
            }
            order
        })
        .collect();
    assert_ne!(orders[0], orders[1]);
    for mut order in orders {
        order.sort_by_key(|url| url.parse::<u32>().unwrap());
        assert_eq!(order, urls);
    }
}

#[test]
fn a_tracker_that_stands_in_keeps_its_own_min_interval() {
    let mut table = Table::new(&[&["a"], &["b"]], false);
    table.asks("a", STARTED).hear(Input::Failed).asks("b", STARTED).ok(6000, 6000);
    // The completion brings a back, which then sets the pace.
    table.at(10).hear(Input::Completed).asks("a", STARTED).ok(1800, None).asks("a", COMPLETED).ok(1800, None);
    // b may not be asked again before 6000.
    table.at(1810).asks("a", None).hear(Input::Failed).asks_nobody().waits(3.75, 6.25);
    table.asks("a", None).ok(4200, None);
    table.at(6100).asks("a", None).hear(Input::Failed).asks("b", None).ok(6000, 6000);
}

#[test]
fn who_refuses_for_a_time_is_left_alone_for_so_long() {
    let refused = |seconds| Input::Refused { wait: Duration::from_secs(seconds) };
    let mut table = Table::new(&[&["a"]], false);
    table.asks("a", STARTED).hear(refused(900)).asks_nobody().hear(Input::WantPeers).waits_until(900);
    // Whatever there is to tell.
    table.at(10).hear(Input::Completed).asks_nobody().at(899).asks_nobody().waits_until(900);
    table.at(900).asks("a", STARTED).ok(1800, None).asks("a", COMPLETED).ok(1800, None);
    table.at(1000).hear(Input::WantPeers).asks("a", None).hear(refused(7200)).asks_nobody();
    table.hear(Input::WantPeers).waits_until(8200).parts(&[("a", &[STOPPED])]);
    // A short time is none when a round waits longer.
    let mut table = Table::new(&[&["a"]], false);
    table.asks("a", STARTED).hear(refused(1)).asks_nobody().waits(3.75, 6.25);
}

#[test]
fn who_refuses_for_a_time_holds_up_nobody_else() {
    let refused = Input::Refused { wait: Duration::from_secs(4000) };
    let mut table = Table::new(&[&["a"], &["b"]], false);
    table.asks("a", STARTED).hear(refused).asks("b", STARTED).ok(1800, None);
    table.at(1800).asks("b", None).hear(Input::Failed).asks_nobody().waits(3.75, 6.25).asks("b", None);
    table.ok(1800, None).at(3700).asks("b", None).ok(1800, None).at(5500).asks("a", STARTED).ok(1800, None);
    // Of two that refuse, who comes first is asked first.
    let mut table = Table::new(&[&["a"], &["b"]], false);
    table.asks("a", STARTED).hear(Input::Refused { wait: Duration::from_secs(900) });
    table.asks("b", STARTED).hear(Input::Refused { wait: Duration::from_secs(300) }).asks_nobody();
    table.waits_until(300).at(300).asks("b", STARTED);
}

#[test]
fn a_tracker_id_is_sent_back_until_another_comes() {
    let mut table = Table::new(&[&["a"]], false);
    let reply = |id: Option<&str>| Input::Succeeded {
        interval: None,
        min_interval: None,
        tracker_id: id.map(|id| id.as_bytes().to_vec()),
    };
    for (now, expected, reply_id) in [
        (0, None, None),
        (1800, None, Some("x")),
        (3600, Some("x"), None),
        (5400, Some("x"), Some("y")),
        (7200, Some("y"), None),
    ] {
        let due = table.at(now).next().unwrap();
        assert_eq!(due.tracker_id.as_deref(), expected.map(str::as_bytes), "at {now}");
        table.hear(reply(reply_id));
    }
}

#[test]
fn only_trackers_that_know_us_or_may_hear_a_goodbye() {
    let mut table = Table::new(&[&["a"], &["b"]], false);
    table.parts(&[]);
    // Who is just being asked may have taken us in.
    table.asks("a", STARTED).parts(&[("a", &[STOPPED])]).hear(Input::Failed).parts(&[]);
    table.asks("b", STARTED).ok(1800, None).parts(&[("b", &[STOPPED])]);
    assert!(table.announcer.goodbyes()[0].heard_of_us);
    table.at(1800).asks("a", STARTED);
    // A completion goes to one that is sure to know what is complete.
    table.hear(Input::Completed).parts(&[("a", &[STOPPED]), ("b", &[COMPLETED, STOPPED])]);
    let sure: Vec<_> = table.announcer.goodbyes().iter().map(|goodbye| goodbye.heard_of_us).collect();
    assert_eq!(sure, [true, false]);
}

#[test]
fn who_was_told_before_the_session_hears_the_goodbye_though_it_was_not_asked_again() {
    let mut first = Table::new(&[&["a"], &["b"]], false);
    let tracker_id = Some(b"x".to_vec());
    first.asks("a", STARTED).hear(Input::Failed).asks("b", STARTED);
    first.hear(Input::Succeeded { interval: None, min_interval: None, tracker_id: tracker_id.clone() });
    let told: Vec<Told> = first.announcer.told().collect();
    assert_eq!(told, [Told { url: "b".into(), heard_of_us: true, tracker_id: tracker_id.clone() }]);
    let mut next = Table::new(&[&["a"], &["b"]], false);
    next.announcer.know_us(&told);
    next.parts(&[("b", &[STOPPED])]).asks("a", STARTED);
    next.hear(Input::Completed).parts(&[("a", &[STOPPED]), ("b", &[COMPLETED, STOPPED])]);
    // To it, too, this is a session that begins.
    let due = next.hear(Input::Failed).next().unwrap();
    assert_eq!((due.event, due.tracker_id), (Some(STARTED), tracker_id));
}

#[test]
fn a_completion_goes_to_who_has_answered_rather_than_to_who_was_only_asked_before_the_session() {
    let mut first = Table::new(&[&["a"], &["b"]], false);
    let told: Vec<Told> = first.asks("a", STARTED).announcer.told().collect();
    assert_eq!(told, [Told { url: "a".into(), heard_of_us: false, tracker_id: None }]);
    let mut next = Table::new(&[&["a"], &["b"]], false);
    next.announcer.know_us(&told);
    next.asks("a", STARTED).hear(Input::Failed).asks("b", STARTED).ok(1800, None).hear(Input::Completed);
    next.parts(&[("a", &[STOPPED]), ("b", &[COMPLETED, STOPPED])]);
    let sure: Vec<_> = next.announcer.goodbyes().iter().map(|goodbye| goodbye.heard_of_us).collect();
    assert_eq!(sure, [true, false]);
}

#[test]
fn a_completion_is_told_before_the_goodbye_and_once() {
    let mut table = Table::new(&[&["a"], &["b"]], false);
    table.asks("a", STARTED).hear(Input::Failed).asks("b", STARTED).ok(300, None);
    table.at(300).asks("a", STARTED).ok(1800, None).hear(Input::Completed);
    table.parts(&[("a", &[COMPLETED, STOPPED]), ("b", &[STOPPED])]);
    table.asks("a", COMPLETED).ok(1800, None).parts(&[("a", &[STOPPED]), ("b", &[STOPPED])]);
}

#[test]
fn without_trackers_nothing_ever_happens() {
    for tiers in [&[][..], &[&[][..], &[]]] {
        let mut table = Table::new(tiers, false);
        table.asks_nobody().hear(Input::WantPeers).hear(Input::Completed).asks_nobody();
        assert_eq!(table.announcer.next_deadline(), None);
        table.parts(&[]);
    }
}
