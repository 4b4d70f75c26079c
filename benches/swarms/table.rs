//! The table that is printed.

use crate::scenarios::Row;

pub(crate) const HEAD: &str = "\
Times are virtual seconds. The bound is that of a fluid swarm: max(F/u_s, F/d, N·F/(u_s+Σu_i)).

| swarm | all done | bound | ratio | mean | wasted % | more |
|---|---|---|---|---|---|---|
";

pub(crate) fn line(name: &str, row: &Row) -> String {
    let Row { last, bound, mean, wasted, aims } = row;
    let more: Vec<String> = aims.iter().map(ToString::to_string).collect();
    let (ratio, more) = (last / bound, more.join("; "));
    format!("| {name} | {last:.0} | {bound:.0} | {ratio:.2} | {mean:.0} | {wasted:.2} | {more} |\n")
}
