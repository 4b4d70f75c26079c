//! The swarms that are measured.

use super::plan::{Grain, Has, NodePlan, Plan};
use super::world::World;
use std::fmt;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Payload, and its pieces.
const SIZE: u64 = 32 * MIB;
const PIECE: u32 = 64 * KIB as u32;
/// Bytes a second of a usual link.
const SPEED: u64 = 128 * KIB;
const LEECHES: usize = 50;
/// Most upload slots; how many there are follows the link.
const SLOTS: usize = 50;
/// Addresses that the tracker gives.
const ADDRESSES: usize = 40;

/// Seeds of chance that each swarm is run with: the first so many.
pub(crate) fn seeds() -> std::ops::RangeInclusive<u64> {
    let count = std::env::var("SEEDRING_SEEDS").ok().map(|count| count.parse().expect("a number of seeds"));
    1..=count.unwrap_or(1)
}

/// Somebody honest with nothing, on a link of this speed both ways. As users are told to, it has told its client what the
/// link is worth.
fn leech(speed: u64) -> NodePlan {
    NodePlan { up: speed, down: speed, told: true, slots: SLOTS, slabs: 1 << 20, ..NodePlan::leech() }
}

fn seed(speed: u64) -> NodePlan {
    NodePlan { has: Has::Everything, ..leech(speed) }
}

/// Something that must hold of a figure.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    what: &'static str,
    value: f64,
    at_least: bool,
    limit: f64,
}

impl Aim {
    fn most(what: &'static str, value: f64, limit: f64) -> Self {
        Self { what, value, at_least: false, limit }
    }

    fn least(what: &'static str, value: f64, limit: f64) -> Self {
        Self { what, value, at_least: true, limit }
    }

    pub(crate) fn is_met(&self) -> bool {
        if self.at_least { self.value >= self.limit } else { self.value <= self.limit }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.at_least { "≥" } else { "≤" };
        let missed = if self.is_met() { "" } else { ": missed" };
        write!(f, "{} {:.3} (aim {sign} {}{missed})", self.what, self.value, self.limit)
    }
}

/// What came out of a swarm.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Seconds until all were done who are honest and stay, and how long they took on average.
    pub(crate) last: f64,
    pub(crate) mean: f64,
    pub(crate) bound: f64,
    /// Payload received in vain, in percent.
    pub(crate) wasted: f64,
    pub(crate) aims: Vec<Aim>,
}

/// A swarm by name, and how to measure it.
type Scenario = (&'static str, fn() -> Row);

pub(crate) const ALL: [Scenario; 11] = [
    ("flash crowd: 1 seed, 50 leeches, equal links", flash_crowd),
    ("mixed links: a third at ¼, a third at 4 times the speed", mixed_links),
    ("30 % free riders", free_riders),
    ("one seed at 1/10 of the leeches' speed", slow_seed),
    ("the same, a slot for nearly each of 16, 10 MB", slow_seed_with_slots),
    ("the same, 16 on one network, 10 MB", slow_seed_of_neighbours),
    ("the same, told nothing of its link", slow_seed_told_nothing),
    ("the same, 20 on one network, 2 MB", slow_seed_of_little),
    ("last piece held by one slow peer", last_piece),
    ("5 % liars", liars),
    ("churn: half of the leeches leave half done", churn),
];

/// A run of a swarm.
struct Run {
    /// Seconds from coming to having everything, of each that got there.
    times: Vec<Option<f64>>,
    wasted: f64,
    world: World,
}

fn run(seed: u64, nodes: &[NodePlan]) -> Run {
    run_of(SIZE, seed, nodes)
}

fn run_of(size: u64, seed: u64, nodes: &[NodePlan]) -> Run {
    run_plan(plan_of(size, seed, nodes))
}

fn plan_of(size: u64, seed: u64, nodes: &[NodePlan]) -> Plan {
    Plan {
        grain: Grain::Coarse,
        tracker: Some(ADDRESSES),
        // Aims are closer; but a swarm that stands still is to be seen soon.
        limit: Duration::from_secs_f64(3.0 * bound_of(size, nodes)),
        ..Plan::quiet(seed, PIECE, size, nodes.to_vec())
    }
}

fn run_plan(plan: Plan) -> Run {
    let mut world = World::new(plan);
    world.run();
    let times = world.nodes.iter().map(|node| {
        let done = node.done.filter(|_| !node.plan.is_seed())?;
        Some(done as f64 / 1e6 - node.plan.comes)
    });
    let times = times.collect();
    let totals = world.nodes.iter().map(|node| node.swarm.totals());
    let (wasted, received) = totals
        .fold((0, 0), |(wasted, received), totals| (wasted + totals.wasted, received + totals.received));
    Run { times, wasted: 100.0 * wasted as f64 / received as f64, world }
}

/// The time a fluid swarm would take.
fn bound(plans: &[NodePlan]) -> f64 {
    bound_of(SIZE, plans)
}

fn bound_of(size: u64, plans: &[NodePlan]) -> f64 {
    let leeches = || plans.iter().filter(|plan| !plan.is_seed());
    let seeds: u64 = plans.iter().filter(|plan| plan.is_seed()).map(|plan| plan.up).sum();
    let ups: u64 = leeches().filter(|plan| !plan.rides_free()).map(|plan| plan.up).sum();
    let slowest = leeches().map(|plan| plan.down).min().unwrap_or(u64::MAX);
    let size = size as f64;
    let all = leeches().count() as f64 * size / (seeds + ups) as f64;
    // Without a seed each has a part of it at the start.
    let alone = if seeds > 0 { size / seeds as f64 } else { 0.0 };
    all.max(alone).max(size / slowest as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Seconds that those took of whom `which` says so.
fn times(run: &Run, which: impl Fn(&NodePlan) -> bool) -> Vec<f64> {
    let of = run.world.nodes.iter().zip(&run.times).filter(|(node, _)| which(&node.plan));
    of.filter_map(|(_, time)| *time).collect()
}

fn is_honest(plan: &NodePlan) -> bool {
    !plan.rides_free() && !plan.is_liar() && plan.stays()
}

/// The medians of several runs. `aims` is given all of them.
fn row(plans: &[NodePlan], bound: f64, aims: impl Fn(&[Run]) -> Vec<Aim>) -> Row {
    row_of(seeds().map(|seed| run(seed, plans)).collect(), bound, aims)
}

fn row_of(runs: Vec<Run>, bound: f64, aims: impl Fn(&[Run]) -> Vec<Aim>) -> Row {
    let over = |figure: &dyn Fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    Row {
        name: "",
        last: over(&|run| times(run, is_honest).into_iter().fold(0.0, f64::max)),
        mean: over(&|run| mean(&times(run, is_honest))),
        bound,
        wasted: over(&|run| run.wasted),
        aims: aims(&runs),
    }
}

fn crowd(count: usize) -> Vec<NodePlan> {
    let mut plans = vec![seed(SPEED)];
    plans.resize(count + 1, leech(SPEED));
    plans
}

fn slowest(run: &Run) -> f64 {
    times(run, is_honest).into_iter().fold(0.0, f64::max)
}

/// Nobody waits much longer than a fluid swarm would have taken, in any run.
fn soon(runs: &[Run], bound: f64, limit: f64) -> Aim {
    Aim::most("slowest run / bound", runs.iter().map(slowest).fold(0.0, f64::max) / bound, limit)
}

fn flash_crowd() -> Row {
    let plans = crowd(LEECHES);
    let bound = bound(&plans);
    row(&plans, bound, |runs| {
        let shares = runs.iter().map(|run| {
            let sent = run.world.nodes[1..].iter().map(|node| node.uploaded as f64);
            let (sum, squares) = sent.fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
            sum * sum / (LEECHES as f64 * squares)
        });
        let fair = shares.fold(1.0, f64::min);
        vec![soon(runs, bound, 1.25), Aim::least("fairness of what leeches sent (Jain)", fair, 0.9)]
    })
}

fn mixed_links() -> Row {
    let mut plans = crowd(45);
    for (number, plan) in plans.iter_mut().enumerate().skip(1) {
        let speed = [SPEED / 4, SPEED, SPEED * 4][number % 3];
        *plan = leech(speed);
    }
    let bound = bound(&plans);
    row(&plans, bound, |runs| {
        let of = |run: &Run, speed| mean(&times(run, |plan| plan.up == speed && !plan.is_seed()));
        let ratios = runs.iter().map(|run| of(run, SPEED * 4) / of(run, SPEED / 4));
        vec![
            Aim::most("time of the fast / of the slow", ratios.fold(0.0, f64::max), 0.7),
            soon(runs, bound, 1.25),
        ]
    })
}

fn free_riders() -> Row {
    let riders = LEECHES * 3 / 10;
    let mut plans = crowd(LEECHES);
    plans[1..=riders].iter_mut().for_each(|plan| plan.slots = 0);
    let without = crowd(LEECHES - riders);
    row(&plans, bound(&without), |runs| {
        let alone: Vec<Run> = seeds().map(|seed| run(seed, &without)).collect();
        // Of each seed of chance.
        let costs = |figure: &dyn Fn(&Run) -> f64| -> Vec<f64> {
            runs.iter().zip(&alone).map(|(run, alone)| figure(run) / figure(alone)).collect()
        };
        let means = costs(&|run| mean(&times(run, is_honest)));
        // Not one of them before anybody else is done.
        let first = |run: &Run| times(run, NodePlan::rides_free).into_iter().fold(f64::MAX, f64::min);
        let behind = runs.iter().map(|run| first(run) / slowest(run)).fold(f64::MAX, f64::min);
        vec![
            Aim::most(
                "mean time of the others / without riders",
                means.into_iter().fold(0.0, f64::max),
                1.05,
            ),
            // One alone is last in either swarm, and which is chance: of five it is 1.08 in the worst.
            Aim::most(
                "median time of the last of the others / without riders",
                median(costs(&slowest)),
                1.05,
            ),
            Aim::least("time of the first rider / of the last of the others", behind, 1.1),
        ]
    })
}

fn slow_seed() -> Row {
    let mut plans = crowd(20);
    plans[0].up = SPEED / 10;
    let bound = bound(&plans);
    row(&plans, bound, |runs| useful(runs, bound))
}

/// What is wanted of a swarm that waits for a slow seed: it sends little twice, and what it sends is passed on at once.
fn useful(runs: &[Run], bound: f64) -> Vec<Aim> {
    let useful = runs.iter().map(|run| {
        let distinct: u64 = run.world.first_sent.iter().map(|block| u64::from(block.len)).sum();
        distinct as f64 / run.world.nodes[0].uploaded as f64
    });
    vec![
        Aim::least("useful share of what the seed sent", useful.fold(1.0, f64::min), 0.95),
        soon(runs, bound, 1.25),
    ]
}

/// There are few pieces for so many slots, and nearly everybody has one from the start: what goes wrong at the beginning, at the
/// end, and when slots change hands weighs much.
fn slow_seed_with_slots() -> Row {
    let (size, speed) = (10_000_000, 4_000_000);
    let mut plans = vec![seed(speed / 10)];
    plans.resize(17, leech(speed));
    let runs = seeds().map(|seed| run_of(size, seed, &plans)).collect();
    let bound = bound_of(size, &plans);
    row_of(runs, bound, |runs| useful(runs, bound))
}

/// Everybody was told of everybody, and they are allowed the same pieces out of turn. Few pieces, and all that a few blocks more are
/// weighs: of 31 pieces two are too many.
fn among_neighbours(size: u64, speed: u64, leeches: usize, told: bool) -> Row {
    let mut plans = vec![NodePlan { told, ..seed(speed / 10) }];
    plans.resize(leeches + 1, leech(speed));
    let measured = |seed| {
        let plan = Plan { neighbours: true, ..plan_of(size, seed, &plans) };
        run_plan(Plan { tracker: None, ..plan })
    };
    let runs = seeds().map(measured).collect();
    let bound = bound_of(size, &plans);
    row_of(runs, bound, |runs| useful(runs, bound))
}

fn slow_seed_of_neighbours() -> Row {
    among_neighbours(10_000_000, 4 * MIB, 16, true)
}

/// It has to find out what its link takes.
fn slow_seed_told_nothing() -> Row {
    among_neighbours(10_000_000, 4 * MIB, 16, false)
}

fn slow_seed_of_little() -> Row {
    among_neighbours(2_000_000, 410 * KIB, 20, true)
}

fn last_piece() -> Row {
    let mut plans = vec![NodePlan { has: Has::Only(100), up: SPEED / 8, ..leech(SPEED) }];
    let rest = NodePlan { has: Has::AllBut(100), ..leech(SPEED) };
    plans.resize(21, rest);
    // The slow one gets the rest at its own speed.
    let bound = SIZE as f64 / SPEED as f64;
    row(&plans, bound, |runs| {
        let rest = runs
            .iter()
            .map(|run| times(run, |plan| plan.has == Has::AllBut(100)).into_iter().fold(0.0, f64::max));
        vec![
            Aim::most("seconds until the last piece is everywhere", rest.fold(0.0, f64::max), 60.0),
            soon(runs, bound, 1.25),
        ]
    })
}

fn liars() -> Row {
    let mut plans = crowd(LEECHES);
    // Of all.
    let liars = (plans.len() + 2).div_ceil(20);
    plans.extend(vec![NodePlan { lies: 0.3, ..seed(SPEED) }; liars]);
    let honest = crowd(LEECHES);
    row(&plans, bound(&honest), |runs| {
        let bad = runs.iter().map(|run| run.wasted).fold(0.0, f64::max);
        vec![Aim::most("wasted %", bad, 3.0), soon(runs, bound(&honest), 1.25)]
    })
}

fn churn() -> Row {
    let mut plans = crowd(LEECHES);
    let whole = SIZE as f64 / SPEED as f64;
    for (number, plan) in plans.iter_mut().enumerate().skip(1) {
        if number % 2 == 0 {
            plan.goes = whole * 0.5 + number as f64;
        } else {
            plan.comes = if number % 4 == 1 { 0.0 } else { whole * 0.3 };
        }
    }
    let staying: Vec<NodePlan> = plans.iter().filter(|plan| plan.stays()).cloned().collect();
    row(&plans, bound(&staying), |runs| vec![soon(runs, bound(&staying), 1.5)])
}
