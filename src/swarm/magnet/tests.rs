use super::*;
use proptest::prelude::*;

const START: Duration = Duration::from_secs(1);

fn metadata(len: usize) -> (Vec<u8>, MetadataFetch) {
    let bytes: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
    let fetch = MetadataFetch::new(InfoHash(Sha1::digest(&bytes).into()));
    (bytes, fetch)
}

fn at(peer: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, peer as u8], 1))
}

fn block(bytes: &[u8], number: u32) -> &[u8] {
    bytes.chunks(METADATA_BLOCK_LEN).nth(number as usize).unwrap()
}

/// Has the peer send all it is asked for, in turn.
fn serve(fetch: &mut MetadataFetch, now: Duration, peer: u64, bytes: &[u8]) -> MetadataOutcome {
    while let Some(number) = fetch.next_request(now, peer) {
        match fetch.data(now, peer, (number, Some(bytes.len() as i64)), block(bytes, number)) {
            MetadataOutcome::Wait => {}
            end => return end,
        }
    }
    MetadataOutcome::Wait
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let (_, mut fetch) = metadata(10);
    let sizes =
        [None, Some(-1), Some(0), Some((32 << 20) + 1), Some(1 << 31), Some(i64::MAX), Some(i64::MIN)];
    assert!(sizes.into_iter().all(|size| !fetch.offer(START, 1, at(1), size)));
    assert!(fetch.offer(START, 1, at(1), Some(1)) && fetch.offer(START, 2, at(2), Some(32 << 20)));
    assert!(!fetch.offer(START, 1, at(1), Some(2)), "no second thoughts");
    assert_eq!(fetch.held(), 0, "nothing is held for a claim");
}

#[test]
fn blocks_of_several_peers_make_the_whole() {
    let (bytes, mut fetch) = metadata(5 * METADATA_BLOCK_LEN + 1);
    let size = Some(bytes.len() as i64);
    assert!(fetch.offer(START, 1, at(1), size) && fetch.offer(START, 2, at(2), size));
    for (first, numbers) in [([1, 1, 2, 2], [0, 1]), ([2, 2, 1, 1], [2, 3])] {
        let asked = first.map(|peer| fetch.next_request(START, peer));
        assert_eq!(asked, [Some(numbers[0]), None, Some(numbers[1]), None], "one at a time");
        for (peer, number) in [(first[2], numbers[1]), (first[0], numbers[0])] {
            assert_eq!(fetch.data(START, peer, (number, size), block(&bytes, number)), MetadataOutcome::Wait);
        }
    }
    assert_eq!(serve(&mut fetch, START, 2, &bytes), MetadataOutcome::Done(bytes));
}

#[test]
fn what_was_not_asked_or_has_a_wrong_length_is_an_offence() {
    let (bytes, mut fetch) = metadata(METADATA_BLOCK_LEN + 5);
    let size = Some(bytes.len() as i64);
    assert_eq!(fetch.data(START, 1, (0, size), block(&bytes, 0)), MetadataOutcome::Offence, "who is that");
    for (total, len) in [(size, 3), (size, 0), (size, METADATA_BLOCK_LEN + 1), (Some(7), METADATA_BLOCK_LEN)]
    {
        fetch.gone(1);
        fetch.offer(START, 1, at(1), size);
        assert_eq!(fetch.next_request(START, 1), Some(0));
        assert_eq!(fetch.data(START, 1, (1, size), block(&bytes, 1)), MetadataOutcome::Offence, "not asked");
        assert_eq!(fetch.data(START, 1, (0, total), &vec![0; len]), MetadataOutcome::Offence);
    }
    fetch.gone(1);
    fetch.offer(START, 1, at(1), size);
    fetch.next_request(START, 1);
    assert_eq!(
        fetch.data(START, 1, (0, None), block(&bytes, 0)),
        MetadataOutcome::Wait,
        "it need not say the size"
    );
    assert_eq!(fetch.data(START, 1, (0, size), block(&bytes, 0)), MetadataOutcome::Offence, "twice");
}

#[test]
fn of_several_senders_nobody_is_blamed_but_then_each_sends_all_of_it_beside_the_others() {
    let (bytes, mut fetch) = metadata(3 * METADATA_BLOCK_LEN);
    let lie = vec![9; bytes.len()];
    let size = Some(bytes.len() as i64);
    assert!(
        fetch.offer(START, 1, at(1), size)
            && fetch.offer(START, 2, at(2), size)
            && fetch.offer(START, 3, at(3), size)
    );
    let asked = [1, 2].map(|peer| fetch.next_request(START, peer));
    assert_eq!(asked, [Some(0), Some(1)]);
    assert_eq!(fetch.data(START, 1, (0, size), block(&lie, 0)), MetadataOutcome::Wait);
    assert_eq!(fetch.data(START, 2, (1, size), block(&bytes, 1)), MetadataOutcome::Wait);
    assert_eq!(fetch.next_request(START, 2), Some(2));
    let wrong = |liar| MetadataOutcome::Wrong { liar };
    assert_eq!(fetch.data(START, 2, (2, size), block(&bytes, 2)), wrong(None));
    // The third drips: nobody waits for it.
    assert_eq!(fetch.next_request(START, 3), Some(0));
    assert_eq!(fetch.data(START, 3, (0, size), block(&lie, 0)), MetadataOutcome::Wait);
    assert_eq!(serve(&mut fetch, START, 1, &lie), wrong(Some(1)));
    fetch.gone(1);
    assert_eq!(fetch.next_request(START, 2), Some(0), "what it has sent before counts");
    assert_eq!(fetch.data(START, 2, (0, size), block(&bytes, 0)), MetadataOutcome::Done(bytes));
}

#[test]
fn of_those_that_are_asked_alone_the_slowest_gives_way_when_there_is_no_room() {
    let (bytes, mut fetch) = metadata(MAX_LEN);
    let size = Some(MAX_LEN as i64);
    let blocks = (MAX_LEN / METADATA_BLOCK_LEN) as u32;
    (1..=3).for_each(|peer| assert!(fetch.offer(START, peer, at(peer), size)));
    // One spoils it all, but for a block of another's.
    assert_eq!(fetch.next_request(START, 2), Some(0));
    assert_eq!(serve(&mut fetch, START, 1, &vec![9; MAX_LEN]), MetadataOutcome::Wait);
    assert_eq!(fetch.data(START, 2, (0, size), block(&bytes, 0)), MetadataOutcome::Wrong { liar: None });
    assert_eq!(fetch.next_request(START, 1), Some(0));
    assert_eq!(fetch.data(START, 1, (0, size), block(&bytes, 0)), MetadataOutcome::Wrong { liar: Some(1) });
    fetch.gone(1);
    // The others drip a block now and then; one that has all must wait for its turn, and no longer.
    assert!(fetch.offer(START, 4, at(4), size));
    let mut now = START;
    assert!(fetch.next_request(now, 2).is_some() && fetch.next_request(now, 3).is_some());
    assert_eq!(fetch.next_request(now, 4), None);
    now += TURN;
    for number in 0..blocks {
        assert_eq!(fetch.next_request(now, 4), Some(number));
        let outcome = fetch.data(now, 4, (number, size), block(&bytes, number));
        assert!(fetch.held() <= MOST_HELD);
        match outcome {
            MetadataOutcome::Wait => assert!(number + 1 < blocks),
            done => assert!(done == MetadataOutcome::Done(bytes.clone())),
        }
    }
}

#[test]
fn a_sole_seed_that_is_slow_and_comes_back_again_and_again_is_enough() {
    let (bytes, mut fetch) = metadata(20 * METADATA_BLOCK_LEN - 5);
    let size = Some(bytes.len() as i64);
    let mut now = START;
    for connection in 1.. {
        assert!(fetch.offer(now, connection, at(9), size));
        // Each comes long after it was asked for, in small parts.
        for _ in 0..2 {
            let number = fetch.next_request(now, connection).unwrap();
            for _ in 0..4 {
                now += PATIENCE * 3 / 4;
                fetch.heard(now, connection);
                assert!(fetch.tick(now).is_empty(), "it gets on");
            }
            match fetch.data(now, connection, (number, size), block(&bytes, number)) {
                MetadataOutcome::Wait => {}
                done => {
                    assert_eq!((done, connection), (MetadataOutcome::Done(bytes), 10));
                    return;
                }
            }
        }
        // Then it falls silent, and is left.
        assert!(fetch.next_request(now, connection).is_some());
        now += PATIENCE;
        assert_eq!(fetch.tick(now), [connection]);
        fetch.gone(connection);
    }
}

#[test]
fn what_those_that_left_have_sent_does_not_pile_up() {
    let (_, mut fetch) = metadata(5);
    for peer in 1..100 {
        assert!(fetch.offer(START, peer, at(peer), Some((METADATA_BLOCK_LEN + peer as usize) as i64)));
        let number = fetch.next_request(START, peer).unwrap();
        fetch.data(START, peer, (number, None), &[0; METADATA_BLOCK_LEN]);
        fetch.gone(peer);
        assert!(fetch.attempts.len() <= MOST_LEFT);
    }
}

#[test]
fn liars_about_the_size_cannot_hold_up_the_others_for_ever() {
    let (bytes, mut fetch) = metadata(100);
    (1..=5).for_each(|n| assert!(fetch.offer(START, n, at(n), Some(MAX_LEN as i64 - n as i64))));
    (1..=5).for_each(|n| _ = fetch.next_request(START, n));
    assert_eq!(fetch.tick(START + PATIENCE), [1, 2, 3, 4, 5]);
    // Who sends now and then is no better.
    let dripped = |fetch: &mut MetadataFetch, n: u64| {
        let block = fetch.next_request(START, n).unwrap();
        fetch.data(START, n, (block, None), &[0; METADATA_BLOCK_LEN])
    };
    (11..=15).for_each(|n| assert!(fetch.offer(START, n, at(n), Some(MAX_LEN as i64 - n as i64))));
    (11..=15).for_each(|n| assert_eq!(dripped(&mut fetch, n), MetadataOutcome::Wait));
    assert!(fetch.offer(START, 9, at(9), Some(100)));
    assert_eq!(serve(&mut fetch, START, 9, &bytes), MetadataOutcome::Done(bytes));
}

#[test]
fn what_liars_send_of_many_sizes_has_a_bound_and_an_honest_one_is_kept() {
    let (bytes, mut fetch) = metadata(3 * METADATA_BLOCK_LEN);
    assert!(fetch.offer(START, 9, at(9), Some(bytes.len() as i64)));
    let first = fetch.next_request(START, 9).unwrap();
    assert_eq!(fetch.data(START, 9, (first, None), block(&bytes, first)), MetadataOutcome::Wait);
    (1..=5).for_each(|n| assert!(fetch.offer(START, n, at(n), Some(MAX_LEN as i64 - n as i64))));
    for n in (1..=5).cycle().take(5 * 2000) {
        let number = fetch.next_request(START, n).unwrap();
        assert_eq!(fetch.data(START, n, (number, None), &[0; METADATA_BLOCK_LEN]), MetadataOutcome::Wait);
        assert!(fetch.held() <= MOST_HELD);
    }
    assert_eq!(serve(&mut fetch, START, 9, &bytes), MetadataOutcome::Done(bytes));
}

#[test]
fn late_and_rejected_blocks_are_asked_of_others() {
    let (bytes, mut fetch) = metadata(100);
    let size = Some(100);
    (1..=3).for_each(|peer| assert!(fetch.offer(START, peer, at(peer), size)));
    assert_eq!(fetch.next_request(START, 1), Some(0));
    assert_eq!(fetch.next_request(START, 2), None);
    assert_eq!(fetch.next_request(START + LATE, 2), Some(0));
    fetch.rejected(START + LATE, 2, 0);
    fetch.rejected(START + LATE, 1, 0);
    assert_eq!([1, 2].map(|peer| fetch.next_request(START + LATE, peer)), [None, None]);
    assert_eq!(serve(&mut fetch, START + LATE, 3, &bytes), MetadataOutcome::Done(bytes));
}

#[test]
fn who_rejects_is_asked_again_after_a_while_and_less_and_less_often() {
    let (bytes, mut fetch) = metadata(2 * METADATA_BLOCK_LEN);
    assert!(fetch.offer(START, 1, at(1), Some(bytes.len() as i64)));
    let mut now = START;
    for rest in [5, 10, 20, 40, 60, 60] {
        assert_eq!(fetch.next_request(now, 1), Some(0));
        assert_eq!([1, 0, 0].map(|block| fetch.rejected(now, 1, block)), [false, true, false]);
        assert_eq!(fetch.next_request(now, 1), None);
        assert!(!fetch.service(now, 1).gives);
        now += Duration::from_secs(rest - 1);
        assert!(fetch.tick(now).is_empty());
        assert_eq!(fetch.next_request(now, 1), None);
        now += Duration::from_secs(1);
    }
    assert_eq!(fetch.rejects(), 6, "what nobody asked for is no reject");
    // With what it sends it begins anew.
    assert_eq!(fetch.next_request(now, 1), Some(0));
    assert_eq!(fetch.data(now, 1, (0, None), block(&bytes, 0)), MetadataOutcome::Wait);
    assert_eq!(fetch.next_request(now, 1), Some(1));
    fetch.rejected(now, 1, 1);
    now += FIRST_REST;
    assert_eq!(serve(&mut fetch, now, 1, &bytes), MetadataOutcome::Done(bytes));
}

#[test]
fn who_drips_loses_its_standing_and_who_is_slow_keeps_it() {
    let (bytes, mut fetch) = metadata(9 * METADATA_BLOCK_LEN);
    let size = Some(bytes.len() as i64);
    assert!(fetch.offer(START, 1, at(1), size) && fetch.offer(START, 2, at(2), size));
    // One sends a byte now and then, the other 1 KB/s.
    let mut asked = fetch.next_request(START, 2).unwrap();
    assert!(fetch.next_request(START, 1).is_some());
    for second in 1..=100 {
        let now = START + Duration::from_secs(second);
        [1, 2].into_iter().for_each(|peer| fetch.heard(now, peer));
        if second % 16 == 0 {
            assert_eq!(fetch.data(now, 2, (asked, size), block(&bytes, asked)), MetadataOutcome::Wait);
            asked = fetch.next_request(now, 2).unwrap();
        }
        assert!(fetch.tick(now).is_empty());
        assert_eq!(fetch.service(now, 1).gives, second < BLOCK_LIMIT.as_secs(), "{second}");
        assert!(fetch.service(now, 2).gives && fetch.service(now, 1).sends);
    }
    let now = START + Duration::from_secs(100);
    assert!((900..1024).contains(&fetch.service(now, 2).rate), "{:?}", fetch.service(now, 2));
    assert_eq!((fetch.late(), fetch.service(now, 1).rate), (1, 0));
    // Its standing comes back with a block in time, not with one that is late.
    let (late, _) = fetch.peers[&1].asked.unwrap();
    assert_eq!(fetch.data(now, 1, (late, size), block(&bytes, late)), MetadataOutcome::Wait);
    assert!(!fetch.service(now, 1).gives);
    let next = fetch.next_request(now, 1).unwrap();
    assert_eq!(fetch.data(now, 1, (next, size), block(&bytes, next)), MetadataOutcome::Wait);
    assert!(fetch.service(now, 1).gives);
    assert_eq!(fetch.late(), 1);
}

proptest! {
    /// Honest peers and liars of all kinds come and go: as long as an honest one is there, it ends, and never wrongly.
    #[test]
    fn it_ends_right_with_one_honest_peer(len in 1usize..70_000, liars in prop::collection::vec(0u8..4, 0..6), seed: u64) {
        let (bytes, mut fetch) = metadata(len);
        let mut rng = fastrand::Rng::with_seed(seed);
        let size = len as i64;
        let mut kinds: BTreeMap<u64, u8> = (1..).zip(liars).collect();
        kinds.insert(0, 0);
        for (peer, kind) in &kinds {
            fetch.offer(START, *peer, at(*peer), Some(if *kind == 3 { size + 1 + *peer as i64 } else { size }));
        }
        let mut now = START;
        for _ in 0..2000 {
            now += Duration::from_millis(500);
            for late in fetch.tick(now) {
                fetch.gone(late);
                kinds.remove(&late);
            }
            let peers: Vec<(u64, u8)> = kinds.iter().map(|(peer, kind)| (*peer, *kind)).collect();
            let (peer, kind) = peers[rng.usize(..peers.len())];
            let Some(number) = fetch.next_request(now, peer) else { continue };
            let outcome = match kind {
                0 => fetch.data(now, peer, (number, Some(size)), block(&bytes, number)),
                1 => fetch.data(now, peer, (number, Some(size)), &vec![1; block(&bytes, number).len()]),
                2 => MetadataOutcome::Wait,
                _ => MetadataOutcome::Offence,
            };
            match outcome {
                MetadataOutcome::Done(whole) => {
                    prop_assert_eq!(whole, bytes);
                    return Ok(());
                }
                MetadataOutcome::Wrong { liar: Some(liar) } => {
                    prop_assert!(kinds[&liar] == 1, "an honest peer is blamed");
                    fetch.gone(liar);
                    kinds.remove(&liar);
                }
                MetadataOutcome::Offence => {
                    prop_assert!(kind != 0);
                    fetch.gone(peer);
                    kinds.remove(&peer);
                }
                _ => {}
            }
        }
        prop_assert!(false, "no end");
    }
}
