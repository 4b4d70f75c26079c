//! The DHT in a simulated world.

use super::world::{Plan, World, victim};
use super::{MINUTE, SECOND, addr};
use crate::discovery::dht::limits::FACTOR;
use crate::metainfo::InfoHash;
use std::net::SocketAddr;

/// A torrent that many announce.
pub(super) const POPULAR: InfoHash = InfoHash([0x5a; 20]);

fn hash(n: usize) -> InfoHash {
    let mut rng = fastrand::Rng::with_seed(n as u64);
    let mut bytes = [0; 20];
    rng.fill(&mut bytes);
    InfoHash(bytes)
}

fn peer(n: usize) -> SocketAddr {
    SocketAddr::new(addr(n as u32).ip(), 7000)
}

/// Torrents are announced by one node each and searched by another: percent of them that were found.
fn found(world: &mut World, torrents: std::ops::Range<usize>) -> usize {
    let honest = world.honest();
    let pick = |rng: &mut fastrand::Rng| honest[rng.usize(..honest.len())];
    let mut rng = fastrand::Rng::with_seed(torrents.start as u64);
    let pairs: Vec<_> = torrents.clone().map(|t| (hash(t), pick(&mut rng), pick(&mut rng))).collect();
    pairs.iter().for_each(|(hash, announcer, _)| world.search(*announcer, *hash, true));
    world.run(2 * MINUTE);
    for (hash, _, searcher) in &pairs {
        if !world.dht(*searcher).searches.contains_key(hash) {
            world.search(*searcher, *hash, false);
        }
    }
    world.run(2 * MINUTE);
    let hit = pairs.iter().filter(|(hash, announcer, searcher)| {
        announcer == searcher
            || world.found.get(&(*searcher, *hash)).is_some_and(|peers| peers.contains(&peer(*announcer)))
    });
    let percent = hit.count() * 100 / pairs.len();
    world.check();
    percent
}

/// Nobody whose address was forged gets more than twice what came in its name, answers, errors and pings together.
fn assert_no_amplification(world: &World) {
    let mut heard = 0;
    for (came, went) in &world.reflected {
        heard += came;
        assert!(*went <= FACTOR * came, "{went} bytes to {} for {came}", victim());
    }
    assert!(heard > 10_000, "forged queries have come: {heard} bytes");
}

fn world(plan: Plan) -> World {
    println!("{plan:?}");
    World::new(plan)
}

#[test]
fn an_honest_world_finds_everything() {
    let mut world = world(Plan { seed: fastrand::u64(..), nodes: 300, liars: 0, loss: 0 });
    world.run(5 * MINUTE);
    assert!(found(&mut world, 0..100) >= 99);
}

#[test]
fn liars_loss_and_churn_do_not_hide_peers() {
    let plan = Plan { seed: fastrand::u64(..), nodes: 1000, liars: 30, loss: 5 };
    let mut world = world(plan);
    world.run(5 * MINUTE);
    // Many announce one torrent, so that replies about it would be long.
    let honest = world.honest();
    honest.iter().take(150).for_each(|n| world.search(*n, POPULAR, true));
    let before = found(&mut world, 0..100);
    assert!(before >= 95, "{before} % found");
    // A quarter goes, others come.
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let leaving = world.honest().into_iter().skip(8).filter(|_| rng.u8(..4) == 0).collect::<Vec<_>>();
    leaving.iter().for_each(|n| world.remove(*n));
    (0..150).for_each(|n| _ = world.add(n % 10 < 3));
    world.run(2 * MINUTE);
    let after = found(&mut world, 100..200);
    assert!(after >= 95, "{after} % found");
    assert!(world.lost > 0);
    assert_no_amplification(&world);
    assert!(!world.honest().iter().any(|n| world.knows(*n, victim())), "who never answered is in no table");
}

#[test]
fn tables_survive_a_restart_and_forget_the_dead() {
    let mut world = world(Plan { seed: fastrand::u64(..), nodes: 100, liars: 0, loss: 2 });
    world.run(5 * MINUTE);
    let before = world.dht(50).nodes();
    assert!(before >= 8, "{before} nodes");
    // The first nodes, which others began with, are gone for good.
    (0..8).for_each(|n| world.remove(n));
    world.restart(50);
    assert_eq!(world.dht(50).nodes(), 0);
    world.run(MINUTE);
    let after = world.dht(50).nodes();
    // Some of those that it had kept have gone, and a few packets are lost: how many are back after a minute is a matter of luck.
    assert!(after >= 4, "{after} nodes, {before} before");
    world.search(60, POPULAR, true);
    world.run(MINUTE);
    world.search(50, POPULAR, false);
    world.run(MINUTE);
    assert!(world.found[&(50, POPULAR)].contains(&peer(60)));
    // Within an hour nobody names the dead any more.
    world.run(60 * MINUTE);
    for n in world.honest() {
        assert!((0..8).all(|dead| !world.knows(n, addr(dead))), "host {n} still knows a dead one");
        assert!(world.dht(n).nodes() >= 8);
    }
}

#[test]
fn announces_are_forgotten_when_nobody_renews_them() {
    let mut world = world(Plan { seed: fastrand::u64(..), nodes: 60, liars: 0, loss: 0 });
    world.run(MINUTE);
    world.search(10, POPULAR, true);
    world.run(MINUTE);
    let stored = |world: &mut World| -> u64 {
        world.honest().into_iter().map(|n| world.dht(n).counters().stored_peers).sum()
    };
    assert!(stored(&mut world) >= 6);
    // Renewed after a quarter of an hour, it does not run out.
    world.run(45 * MINUTE);
    assert!(stored(&mut world) >= 6);
    world.remove(10);
    world.run(31 * MINUTE);
    assert_eq!(stored(&mut world), 0);
}

#[test]
fn a_lonely_node_does_not_hurry_itself_to_death() {
    let mut world = world(Plan { seed: fastrand::u64(..), nodes: 1, liars: 0, loss: 0 });
    world.search(0, POPULAR, true);
    world.run(60 * MINUTE);
    let counters = world.dht(0).counters();
    assert_eq!(counters.datagrams_out, 0);
    // It has looked around every now and then: an hour has 3600 seconds.
    assert!((5..60).contains(&counters.lookups), "{counters:?}");
    world.run(SECOND);
}
