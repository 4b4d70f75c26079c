use super::*;
use crate::metainfo::Layout;
use crate::ring::{CHUNK_SLABS, Config, run};

#[test]
fn runs_of_a_piece_that_was_bad_are_served_to_nobody() {
    let layout = Layout::new(1 << 20, [2 << 20]).unwrap();
    let [good, bad] = [0, 1].map(|number| layout.piece(number).unwrap());
    let core = Core::without_ring(4 << 20);
    let mut memory = Memory::new(&core, usize::MAX);
    let free = core.arena.free();
    for key in [(good, 0), (bad, 0), (bad, 1)] {
        let slab = memory.take(0).unwrap().seal().ok().unwrap();
        memory.keep(key, slab, 0..100);
    }
    memory.forget(bad);
    assert!(memory.get((bad, 0), &(0..10)).is_none() && memory.get((bad, 1), &(0..10)).is_none());
    assert!(memory.get((good, 0), &(0..10)).is_some());
    assert_eq!((core.arena.free(), memory.available()), (free - 1, free), "their slabs are free");
}

/// Memory with room for ten chunks, and the runs of a torrent that is longer.
fn with_runs(work: impl FnOnce(Memory, Arena, Vec<RunKey>)) {
    const CHUNK: usize = CHUNK_SLABS as usize;
    let pieces = Layout::new(1 << 20, [20 * CHUNK as u64 * (1 << 18)]).unwrap();
    let runs = (0..20 * CHUNK as u32).map(|run| (pieces.piece(run / 4).unwrap(), run as usize % 4));
    let runs: Vec<RunKey> = runs.collect();
    let core = Core::without_ring(10 * CHUNK * (SLAB_LEN + 4096));
    work(Memory::new(&core, runs.len()), core.arena, runs);
}

fn keep(memory: &mut Memory, key: RunKey) {
    if memory.get(key, &(0..100)).is_none() {
        memory.miss(key);
        let slab = memory.take(0).unwrap().seal().ok().unwrap();
        memory.keep(key, slab, 0..SLAB_LEN);
    }
}

/// Takes and keeps runs as a seed does that may have what is in the page cache mapped, as many as it gets.
fn keep_in_half(memory: &mut Memory, runs: &[RunKey]) -> usize {
    let got = runs.iter().take_while(|key| memory.stays_in_half().then(|| keep(memory, **key)).is_some());
    got.count()
}

#[test]
fn a_seed_leaves_half_of_the_memory_to_what_is_mapped() {
    let layout = Layout::new(1 << 18, [2000 << 18]).unwrap();
    let runs: Vec<RunKey> =
        (0..layout.piece_count()).map(|piece| (layout.piece(piece).unwrap(), 0)).collect();
    for slabs in [15, 31, 63, 126, 300, 1000] {
        let core = Core::without_ring(slabs * (SLAB_LEN + 4096));
        let mut memory = Memory::new(&core, runs.len());
        let grown = || slabs - core.arena.untouched();
        assert!(grown() <= slabs.div_ceil(4), "{slabs}: {}", grown());
        assert_eq!(keep_in_half(&mut memory, &runs), runs.len(), "the cache gives way");
        // As if all of them were wanted by several.
        memory.room = slabs;
        assert_eq!(keep_in_half(&mut memory, &runs), runs.len());
        let mut held = Vec::new();
        while memory.stays_in_half() {
            held.push(memory.take(0).unwrap());
        }
        assert!(grown() <= slabs.div_ceil(2) && held.len() == grown(), "{slabs}: {}", grown());
        assert!(memory.take(0).is_some(), "who has to may have more");
    }
}

#[test]
fn runs_that_are_used_once_take_one_chunk() {
    with_runs(|mut memory, arena, runs| {
        runs.iter().for_each(|key| keep(&mut memory, *key));
        assert_eq!(arena.capacity() - arena.untouched(), CHUNK_SLABS as usize);
        assert!(memory.gone.in_order.len() <= 2 * arena.untouched());
    });
}

#[test]
fn what_has_gone_again_is_remembered_from_then_on() {
    with_runs(|_, _, runs| {
        let mut gone = Gone::default();
        let most = 4;
        gone.add(runs[0], most);
        gone.ask(runs[0]);
        runs[1..4].iter().for_each(|key| gone.add(*key, most));
        gone.add(runs[0], most);
        assert_eq!(gone.regrets, 1);
        // The first time that it went is forgotten now, not the second one.
        gone.add(runs[4], most);
        gone.ask(runs[0]);
        gone.ask(runs[1]);
        assert_eq!((gone.regrets, gone.runs.len()), (2, 3), "the second one is forgotten in its place");
    });
}

#[test]
fn little_is_read_ahead_until_it_is_taken() {
    with_runs(|mut memory, arena, runs| {
        let chunk = CHUNK_SLABS as usize;
        let read = |memory: &mut Memory, key: RunKey| {
            let ahead = memory.read_ahead()?;
            let slab = memory.take(0).unwrap().seal().ok().unwrap();
            memory.keep_read(key, slab, 0..SLAB_LEN, Some(ahead));
            Some(())
        };
        let count = runs.iter().take_while(|key| read(&mut memory, **key).is_some()).count();
        assert_eq!(count, MOST_AHEAD.min(arena.capacity() / AHEAD_SHARE));
        assert_eq!(arena.capacity() - arena.untouched(), 2 * chunk, "half of it");
        assert!(runs[..count].iter().all(|key| memory.holds(*key)), "none has pushed out another");
        memory.taken(runs[3], 7);
        assert!(read(&mut memory, runs[count]).is_some() && read(&mut memory, runs[count + 1]).is_none());
        memory.forget(runs[0].0);
        assert!(read(&mut memory, runs[count + 1]).is_some(), "three of its runs are nobody's any more");
    });
}

#[test]
fn what_was_used_last_stays_when_another_run_has_to_give_way() {
    with_runs(|mut memory, _, runs| {
        let (chunk, next) = (&runs[..CHUNK_SLABS as usize], runs[CHUNK_SLABS as usize]);
        chunk.iter().for_each(|key| keep(&mut memory, *key));
        assert!(chunk.iter().all(|key| memory.holds(*key)), "there is room for all of them");
        assert!(memory.get(chunk[0], &(0..100)).is_some());
        keep(&mut memory, next);
        let left: Vec<usize> = (0..chunk.len()).filter(|at| !memory.holds(chunk[*at])).collect();
        assert!(left == [1] && memory.holds(next), "{left:?} have left");
    });
}

/// Giving up what is being sent would free nothing.
#[test]
fn what_is_being_sent_stays_however_old_it_is() {
    with_runs(|mut memory, _, runs| {
        let (chunk, next) = (&runs[..CHUNK_SLABS as usize], runs[CHUNK_SLABS as usize]);
        chunk.iter().for_each(|key| keep(&mut memory, *key));
        let sent = memory.get(chunk[0], &(0..100)).unwrap();
        assert!(chunk[1..].iter().all(|key| memory.get(*key, &(0..100)).is_some()), "used since");
        keep(&mut memory, next);
        assert!(memory.holds(chunk[0]) && !memory.holds(chunk[1]));
        drop(sent);
    });
}

#[test]
fn what_was_used_again_gives_way_all_the_same() {
    with_runs(|mut memory, arena, runs| {
        let (chunk, others) = runs.split_at(CHUNK_SLABS as usize);
        chunk.iter().for_each(|key| keep(&mut memory, *key));
        assert!(chunk.iter().all(|key| memory.get(*key, &(0..100)).is_some()));
        others[..chunk.len()].iter().for_each(|key| keep(&mut memory, *key));
        assert_eq!(arena.capacity() - arena.untouched(), CHUNK_SLABS as usize, "it need not grow");
        assert!(!chunk.iter().any(|key| memory.holds(*key)));
    });
}

#[test]
fn memory_grows_to_all_of_a_small_torrent() {
    let core = Core::without_ring(16 * CHUNK_SLABS as usize * (SLAB_LEN + 4096));
    let layout = Layout::new(1 << 18, [(2 * u64::from(CHUNK_SLABS)) << 18]).unwrap();
    let runs: Vec<RunKey> =
        (0..layout.piece_count()).map(|piece| (layout.piece(piece).unwrap(), 0)).collect();
    let mut memory = Memory::new(&core, runs.len());
    runs.iter().for_each(|key| keep(&mut memory, *key));
    assert!(runs.iter().all(|key| memory.holds(*key)));
    assert_eq!(memory.arena.capacity() - memory.arena.untouched(), runs.len(), "and no further");
}

#[test]
fn memory_grows_before_runs_leave_that_several_peers_take() {
    with_runs(|mut memory, arena, runs| {
        for key in &runs {
            keep(&mut memory, *key);
            // One peer, again and again, is not several.
            (0..3).for_each(|_| memory.taken(*key, 1));
        }
        assert_eq!(arena.capacity() - arena.untouched(), CHUNK_SLABS as usize);
        let wanted = &runs[..5 * CHUNK_SLABS as usize];
        for key in wanted {
            keep(&mut memory, *key);
            (1..=2).for_each(|peer| memory.taken(*key, peer));
        }
        let grown = (arena.capacity() - arena.untouched()) / CHUNK_SLABS as usize;
        assert_eq!(grown, 3, "by one chunk for each that had to leave");
    });
}

#[test]
fn memory_grows_to_what_is_asked_for_again() {
    with_runs(|mut memory, arena, runs| {
        let wanted = &runs[..3 * CHUNK_SLABS as usize];
        (0..20).for_each(|_| wanted.iter().for_each(|key| keep(&mut memory, *key)));
        assert!(wanted.iter().all(|key| memory.holds(*key)), "all fits now");
        assert!(arena.capacity() - arena.untouched() <= 8 * CHUNK_SLABS as usize);
    });
}

#[test]
fn what_was_read_of_a_run_late_replaces_nothing() {
    with_runs(|mut memory, _, runs| {
        for range in [5..100, 0..SLAB_LEN, 5..200] {
            let slab = memory.take(0).unwrap().seal().ok().unwrap();
            memory.keep(runs[0], slab, range);
        }
        assert!(memory.get(runs[0], &(0..SLAB_LEN)).is_some());
    });
}

#[test]
fn what_is_promised_nobody_else_takes() {
    with_runs(|mut memory, arena, runs| {
        runs[..arena.capacity()].iter().for_each(|key| keep(&mut memory, *key));
        let promises: Vec<_> = std::iter::from_fn(|| memory.promise()).collect();
        assert_eq!(promises.len(), arena.capacity(), "what is cached gives way");
        assert!(memory.take(0).is_none() && memory.available() == 0);
        let cached = *memory.idle.values().next_back().unwrap();
        assert!(memory.get(cached, &(0..100)).is_none(), "who sends it would hold it");
        let taken: Vec<_> = promises.iter().map(|promise| memory.redeem(promise, 0)).collect();
        assert_eq!((taken.len(), memory.cached.len()), (arena.capacity(), 0));
        drop((promises, taken));
        assert_eq!(memory.available(), arena.capacity());
    });
}

#[test]
fn downloads_leave_something_to_uploads() {
    with_runs(|mut memory, arena, runs| {
        let most = arena.capacity() - arena.capacity() / UPLOAD_SHARE;
        assert_eq!([0, most - 3, most, most + 9].map(|had| memory.for_downloads(had)), [most, 3, 0, 0]);
        runs[..4].iter().for_each(|key| keep(&mut memory, *key));
        let sent: Vec<_> = runs[..4].iter().map(|key| memory.get(*key, &(0..100)).unwrap()).collect();
        assert_eq!(memory.for_downloads(most - 4), 4, "these are sent soon");
        memory.zero_copy.pretend_in_flight(9);
        assert_eq!([most - 8, most - 5, most - 4].map(|had| memory.for_downloads(had)), [4, 1, 0]);
        memory.zero_copy.pretend_in_flight(0);
        drop(sent);
        let mut held: Vec<_> = std::iter::from_fn(|| memory.take(0)).collect();
        held.truncate(arena.capacity() - 2);
        assert_eq!(memory.for_downloads(0), 2);
        keep(&mut memory, runs[0]);
        assert_eq!(memory.for_downloads(0), 2, "what is cached gives way");
    });
}

#[test]
fn a_run_that_somebody_holds_is_not_promised() {
    with_runs(|mut memory, arena, runs| {
        keep(&mut memory, runs[0]);
        keep(&mut memory, runs[1]);
        let held = [memory.get(runs[0], &(0..100)), memory.get(runs[0], &(0..100))];
        assert_eq!(memory.available(), arena.capacity() - 1);
        let others = [memory.promise(), memory.promise()];
        assert_eq!(memory.available(), arena.capacity() - 3);
        assert!(memory.get(runs[0], &(0..100)).is_some(), "one more holds it");
        drop((held, others));
        assert_eq!(memory.available(), arena.capacity());
        // Also what was held before it was kept.
        let slab = memory.take(0).unwrap().seal().ok().unwrap();
        memory.keep(runs[2], slab.clone(), 0..100);
        assert_eq!(memory.available(), arena.capacity() - 1);
    });
}

#[cfg_attr(miri, ignore = "needs a ring")]
#[test]
fn memory_grows_to_the_last_slab_when_nothing_can_give_way() {
    run(Config::new(10 * CHUNK_SLABS as usize * (SLAB_LEN + 4096)), async |core| {
        let (mut memory, arena) = (Memory::new(&core, usize::MAX), &core.arena);
        let held: Vec<_> = std::iter::from_fn(|| memory.take(0)).collect();
        assert_eq!((held.len(), arena.free()), (arena.capacity(), 0));
        assert!(arena.is_registered(), "run the tests with enough lockable memory");
    })
    .unwrap();
}

#[test]
fn what_nobody_else_holds_is_known_whatever_happened() {
    with_runs(|mut memory, arena, runs| {
        let mut random = fastrand::Rng::with_seed(4);
        let mut held: Vec<Slab> = Vec::new();
        for _ in 0..20_000 {
            let key = runs[random.usize(..40)];
            let end = random.usize(1..=SLAB_LEN);
            match random.u8(..8) {
                0..3 => held.extend(memory.get(key, &(0..end))),
                3..5 => {
                    let Some(slab) = memory.take(0) else { continue };
                    let slab = slab.seal().ok().unwrap();
                    held.extend((random.u8(..4) > 0).then(|| slab.clone()));
                    memory.keep(key, slab, 0..end);
                }
                5..7 if !held.is_empty() => drop(held.swap_remove(random.usize(..held.len()))),
                _ if random.u8(..20) == 0 => memory.forget(key.0),
                _ => {}
            }
            let sole = memory.cached.values().filter(|cached| cached.slab.is_sole()).count();
            assert_eq!(memory.available(), arena.free() + sole);
            assert_eq!((memory.idle.len(), memory.shared.len()), (sole, memory.cached.len() - sole));
        }
        assert!(held.len() > 1 && memory.cached.len() > 1);
    });
}
