//! Whole swarms of the real [`Swarm`](seedring::swarm::Swarm) in virtual time, on links with a speed each way: how long
//! until everybody has everything, who paid for it, and which aims are met. The same seed gives the same run.
//!
//! `cargo bench --bench swarms [NAME]` prints a table of all swarms, or of those with NAME in theirs.

mod node;
mod scenarios;
mod table;
mod world;

fn main() {
    // Cargo adds an option of its own.
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    print!("{}", table::HEAD);
    for (name, run) in scenarios::ALL.iter().filter(|(name, _)| name.contains(&wanted)) {
        print!("{}", table::line(name, &run()));
    }
}
