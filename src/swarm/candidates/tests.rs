use super::super::known::FIRST_WAIT;
use super::*;

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn failures_make_it_wait_longer_and_be_forgotten_unless_given() {
    let mut book = Candidates::default();
    assert!(book.add(addr(1), Source::Tracker) && book.add(addr(2), Source::Given));
    let mut now = Duration::ZERO;
    for _ in 0..=MOST_FAILURES {
        assert_eq!(book.take_due(now, 9, false, |_| 0), [addr(1), addr(2)]);
        assert_eq!(book.take_due(now, 9, false, |_| 0), [], "both are being dialled");
        book.ended(now, addr(1), false);
        book.ended(now, addr(2), false);
        assert_eq!(book.take_due(now + FIRST_WAIT / 2, 9, false, |_| 0), []);
        now += LONGEST_WAIT;
    }
    assert_eq!((book.take_due(now, 9, false, |_| 0), book.given_up()), (vec![addr(2)], 1));
}

#[test]
fn dials_are_limited_and_connections_not_dialled_again() {
    let mut book = Candidates::default();
    (1..=100).for_each(|port| assert!(book.add(addr(port), Source::Tracker)));
    assert!(!book.add(addr(0), Source::Tracker), "nobody listens on port 0");
    let first = book.take_due(Duration::ZERO, 30, false, |_| 0);
    assert_eq!((first.len(), book.dialling()), (30, 30));
    first.iter().for_each(|addr| book.connected(*addr));
    let second = book.take_due(Duration::ZERO, 5, false, |_| 0);
    assert_eq!(second.len(), 5);
    assert!(second.iter().all(|addr| !first.contains(addr)));
}

#[test]
fn the_banned_stay_banned_and_seeds_leave_seeds_alone() {
    let mut book = Candidates::default();
    book.add(addr(1), Source::Given);
    book.add(addr(2), Source::Tracker);
    book.take_due(Duration::ZERO, 9, false, |_| 0);
    book.connected(addr(1));
    book.ban(addr(1));
    book.ended(Duration::ZERO, addr(1), true);
    book.is_seed(addr(2), true);
    book.ended(Duration::ZERO, addr(2), true);
    assert_eq!(book.take_due(LONGEST_WAIT, 9, true, |_| 0), []);
    assert_eq!(book.take_due(LONGEST_WAIT, 9, false, |_| 0), [addr(2)]);
}

#[test]
fn who_is_connected_otherwise_is_left_alone_for_a_while_and_not_forgotten() {
    let mut book = Candidates::default();
    book.add(addr(1), Source::Exchange);
    let mut now = Duration::ZERO;
    for _ in 0..3 * MOST_FAILURES {
        assert_eq!(book.take_due(now, 9, false, |_| 0), [addr(1)]);
        book.postpone(now, addr(1));
        assert_eq!(book.take_due(now + CONNECTED_WAIT / 2, 9, false, |_| 0), []);
        now += CONNECTED_WAIT;
    }
}

/// All sources but the user.
const OTHERS: [Source; 5] = [Source::Tracker, Source::Local, Source::Dht, Source::Itself, Source::Exchange];

#[test]
fn no_source_can_fill_the_book_of_the_others() {
    let mut book = Candidates::default();
    for (at, source) in [Source::Given].into_iter().chain(OTHERS).enumerate() {
        let ip = [10, 0, 0, at as u8];
        let named = (1..=source.share() as u16 + 10).map(|port| SocketAddr::from((ip, port)));
        let added = named.filter(|addr| book.add(*addr, source)).count();
        assert_eq!(added, source.share(), "{source:?}");
    }
    assert!(OTHERS.iter().all(|source| source.share() <= 1200) && book.book.len() <= 5000);
    assert!(book.add(SocketAddr::from(([10, 0, 0, 1], 1)), Source::Exchange), "known already");
    assert!(book.knows_host([10, 0, 0, 1].into()) && !book.knows_host([127, 0, 0, 2].into()));
}

#[test]
fn who_has_failed_most_gives_way_to_the_new_of_its_source() {
    let mut book = Candidates::default();
    (1..=200).for_each(|port| assert!(book.add(addr(port), Source::Local)));
    let fail = |book: &mut Candidates, port, times| {
        for _ in 0..times {
            book.ended(Duration::ZERO, addr(port), false);
        }
    };
    fail(&mut book, 7, 1);
    fail(&mut book, 8, 2);
    assert!(book.add(addr(1000), Source::Local) && book.add(addr(1001), Source::Local));
    assert!(!book.add(addr(1002), Source::Local), "the others are yet to be tried");
    assert_eq!(book.given_up(), 2);
    let due = book.take_due(LONGEST_WAIT, 999, false, |_| 0);
    assert!(due.len() == 200 && !due.contains(&addr(7)) && !due.contains(&addr(8)));
}

#[test]
fn a_better_source_takes_an_address_over() {
    let mut book = Candidates::default();
    book.add(addr(1), Source::Exchange);
    (2..=700).for_each(|port| _ = book.add(addr(port), Source::Exchange));
    assert!(book.add(addr(1), Source::Given) && book.add(addr(2), Source::Dht));
    assert!(book.add(addr(2), Source::Exchange), "and keeps it");
    assert_eq!(book.take_due(Duration::ZERO, 2, false, |_| 0), [addr(1), addr(2)]);
    let room = (701..=800).filter(|port| book.add(addr(*port), Source::Exchange)).count();
    assert_eq!(room, 2);
}

#[test]
fn sources_take_turns_and_of_each_the_greatest_rank_comes_first() {
    let mut book = Candidates::default();
    (1..=40).for_each(|port| assert!(book.add(addr(port), Source::Exchange)));
    (41..=44).for_each(|port| assert!(book.add(addr(port), Source::Tracker)));
    assert!(book.add(addr(50), Source::Given));
    let due = book.take_due(Duration::ZERO, 6, false, |addr| u32::from(addr.port()));
    assert_eq!(due, [50, 44, 40, 43, 39, 42].map(addr));
    let rest = book.take_due(Duration::ZERO, 4, false, |addr| u32::from(addr.port()));
    assert_eq!(rest, [38, 41, 37, 36].map(addr), "no room is left empty");
}

#[test]
fn what_the_user_gave_takes_turns_with_the_others() {
    let mut book = Candidates::default();
    (1..=200).for_each(|port| assert!(book.add(addr(port), Source::Given)));
    assert!(book.add(addr(300), Source::Tracker) && book.add(addr(400), Source::Exchange));
    let due = book.take_due(Duration::ZERO, 9, false, |_| 0);
    assert_eq!(due[..4], [1, 300, 400, 2].map(addr));
    // Also of one dial at a time.
    (301..=302).for_each(|port| assert!(book.add(addr(port), Source::Tracker)));
    let mut one = || book.take_due(Duration::ZERO, 1, false, |_| 0)[0].port() / 100;
    assert_eq!([one(), one(), one()], [3, 0, 3]);
}

#[test]
fn one_dial_at_a_time_goes_round_too() {
    let mut book = Candidates::default();
    for (at, source) in OTHERS.into_iter().enumerate() {
        (1..=3).for_each(|n| assert!(book.add(addr(10 * at as u16 + n), source)));
    }
    let mut one = || book.take_due(Duration::ZERO, 1, false, |_| 0)[0].port() / 10;
    assert_eq!([(); 10].map(|()| one()), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
}

#[test]
fn what_was_never_tried_comes_before_what_has_failed_and_fewer_failures_before_more() {
    let mut book = Candidates::default();
    (1..=3).for_each(|port| assert!(book.add(addr(port), Source::Tracker)));
    for (port, failures) in [(3, 2), (2, 1)] {
        (0..failures).for_each(|_| book.ended(Duration::ZERO, addr(port), false));
    }
    let due = book.take_due(LONGEST_WAIT, 2, false, |addr| u32::from(addr.port()));
    assert_eq!(due, [1, 2].map(addr));
    assert_eq!(book.take_due(LONGEST_WAIT, 2, false, |_| 0), [addr(3)]);
}

/// Peers tell of it once only, and where somebody was met their word is not all that there is.
#[test]
fn where_somebody_was_met_a_few_failures_do_not_count() {
    for (met, left) in [(false, 0), (true, 1)] {
        let mut book = Candidates::default();
        assert!(book.add_told(addr(1), Teller::new(addr(2))));
        let mut now = Duration::ZERO;
        if met {
            book.take_due(now, 9, false, |_| 0);
            book.connected(addr(1));
            book.ended(now, addr(1), true);
            now += LONGEST_WAIT;
        }
        for _ in 0..=MOST_FAILURES_TOLD {
            assert_eq!(book.take_due(now, 9, false, |_| 0), [addr(1)]);
            book.ended(now, addr(1), false);
            now += LONGEST_WAIT;
        }
        assert_eq!(book.take_due(now, 9, false, |_| 0).len(), left, "{met}");
    }
}
