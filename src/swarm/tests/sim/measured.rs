//! Whole swarms, on links with a speed each way: how long until everybody has everything, who paid for it, and which aims are
//! met. What they measure is kept in `table.md`; how to write it anew is said there.

use super::scenarios::{self, ALL, Row};
use super::table;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Measures all swarms, on as many threads as there are processors.
fn measure() -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut rows = Vec::new();
        while let Some((name, run)) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            rows.push(Row { name, ..run() });
        }
        rows
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rows = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a swarm failed")).collect::<Vec<_>>()
    });
    rows.sort_by_key(|row| ALL.iter().position(|(name, _)| *name == row.name));
    rows
}

#[test]
fn swarms_do_as_well_as_the_table_says_and_meet_their_aims() {
    let rows = measure();
    let text = table::of(&rows);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/swarm/tests/sim/table.md");
    println!("{text}");
    if scenarios::seeds().count() != 1 {
        return;
    }
    if std::env::var_os("SEEDRING_TABLE").is_some_and(|value| value == "write") {
        std::fs::write(&path, &text).expect("the table can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(rows.iter().flat_map(|row| &row.aims).all(scenarios::Aim::is_met), "an aim is missed:\n{text}");
    assert_eq!(kept, text, "table.md says otherwise; SEEDRING_TABLE=write writes it anew");
}
