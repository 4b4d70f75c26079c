//! The table as text.

use super::scenarios::Row;

const HEAD: &str = "\
# What whole swarms do in virtual time

Measured by `cargo test --lib tests::sim`, which fails when it finds anything else; `SEEDRING_TABLE=write cargo test --lib
tests::sim::measured` writes this file. The real `swarm` core, one seed of chance a row; `SEEDRING_SEEDS=5` prints the medians of
five (aims: the worst of them, but where it says median) and compares nothing. 32 MiB in pieces of 64 KiB, links of 128 KiB/s
each way where nothing else is said. Times are virtual seconds. The bound is that of a fluid swarm: max(F/u_s, F/d, N·F/(u_s+Σu_i)). `all
done`, `mean`: the honest leeches that stay. Wasted: of the payload that was received.

| swarm | all done | bound | ratio | mean | wasted % | aims |
|---|---|---|---|---|---|---|
";

pub(crate) fn of(rows: &[Row]) -> String {
    HEAD.to_owned() + &rows.iter().map(line).collect::<String>()
}

pub(crate) fn line(row: &Row) -> String {
    let Row { name, last, bound, mean, wasted, aims } = row;
    let aims: Vec<String> = aims.iter().map(ToString::to_string).collect();
    let (ratio, aims) = (last / bound, aims.join("; "));
    format!("| {name} | {last:.0} | {bound:.0} | {ratio:.2} | {mean:.0} | {wasted:.2} | {aims} |\n")
}
