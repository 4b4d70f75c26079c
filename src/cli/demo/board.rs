//! What people see of a whole swarm while it runs, and what is said of it at the end.

use super::super::human;
use super::super::json::Line;
use super::super::output::Output;
use super::super::progress::{self, Pace};
use crate::session::{Event, Progress};
use indicatif::ProgressBar;
use std::fmt::Write;
use std::time::Duration;

/// All nodes of the swarm; number 0 is the seeder.
#[derive(Debug)]
pub(super) struct Board<'a> {
    out: &'a Output,
    /// Size of the shared file in bytes.
    size: u64,
    nodes: Vec<Node>,
    pace: Pace,
}

#[derive(Debug)]
struct Node {
    name: String,
    last: Progress,
    complete: bool,
    bar: Option<ProgressBar>,
}

impl<'a> Board<'a> {
    pub(super) fn new(out: &'a Output, size: u64, names: impl Iterator<Item = String>) -> Self {
        let nodes = names.enumerate().map(|(index, name)| {
            let template = "{prefix:<10} [{bar:24.cyan/blue}] {percent:>3}%  {wide_msg}";
            let bar = out.add_bar(progress::bar(size, template).with_prefix(name.clone()));
            let is_seeder = index == 0;
            let last = Progress { left: if is_seeder { 0 } else { size }, ..Progress::default() };
            Node { name, last, complete: is_seeder, bar }
        });
        Self { out, size, nodes: nodes.collect(), pace: Pace::new() }
    }

    /// Shows what a node tells.
    pub(super) fn show(&mut self, node: usize, event: &Event) {
        let it = &mut self.nodes[node];
        if let Some(line) = Line::of(event) {
            self.out.emit_of(Some(&it.name), &line);
        }
        match event {
            Event::Progress(progress) => it.last = *progress,
            Event::Completed(progress) => (it.last, it.complete) = (*progress, true),
            Event::PieceFailed(piece) => {
                self.out
                    .note(&format!("{}: piece {piece} had a wrong hash; it will be fetched again", it.name));
            }
            Event::PieceLost { piece, reason } => {
                self.out.note(&format!("{}: piece {piece} is lost: {reason}", it.name));
            }
            Event::PeerDropped { addr, reason } => tracing::info!("{}: the peer {addr} {reason}", it.name),
            Event::Tracker { result: Err(reason), .. } => {
                self.out.note(&format!("{}: the tracker does not answer: {reason}", it.name));
            }
            Event::Checking { .. }
            | Event::Checked(_)
            | Event::Listening(_)
            | Event::Snapshot(_)
            | Event::TrackerCounts(_)
            | Event::Local(_)
            | Event::Dht(_)
            | Event::DhtCounters(_)
            | Event::Tracker { .. } => {}
        }
        let it = &self.nodes[node];
        if let Some(bar) = &it.bar {
            bar.set_position(self.size - it.last.left.min(self.size));
            bar.set_message(rates(&it.last, it.complete));
        } else if self.pace.is_due() {
            self.out.note(&self.combined());
        }
    }

    /// Keeps where a node stood at its end.
    pub(super) fn end(&mut self, node: usize, progress: Progress) {
        let it = &mut self.nodes[node];
        it.last = progress;
        let Progress { downloaded, uploaded, .. } = progress;
        self.out.emit_of(Some(&it.name), &Line::Stopped { downloaded, uploaded });
    }

    /// Whether every node has the whole file.
    pub(super) fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| node.complete)
    }

    /// Takes the bars away.
    pub(super) fn clear(&self) {
        self.nodes.iter().filter_map(|node| node.bar.as_ref()).for_each(ProgressBar::finish_and_clear);
    }

    /// One line about all downloaders.
    fn combined(&self) -> String {
        let leechers = &self.nodes[1..];
        let all = self.size * leechers.len() as u64;
        let left: u64 = leechers.iter().map(|node| node.last.left).sum();
        let rate = leechers.iter().map(|node| node.last.download_rate).sum();
        let done = all.saturating_sub(left);
        let percent = done as f64 * 100.0 / all as f64;
        format!("{percent:.1}%  {} of {}  {}", human::size(done), human::size(all), human::rate(rate))
    }

    /// Payload bytes given by the seeder, and by the downloaders.
    pub(super) fn uploaded(&self) -> (u64, u64) {
        (self.nodes[0].last.uploaded, self.nodes[1..].iter().map(|node| node.last.uploaded).sum())
    }

    /// Who fetched and gave how much, and how fast it went.
    pub(super) fn summary(&self, time: Duration, sha256: &str) -> String {
        let mut text = format!("{:<10}  {:>12}  {:>12}\n", "", "fetched", "given");
        for (index, node) in self.nodes.iter().enumerate() {
            let fetched = if index == 0 { "-".into() } else { human::size(node.last.downloaded) };
            let given = human::size(node.last.uploaded);
            writeln!(text, "{:<10}  {fetched:>12}  {given:>12}", node.name).expect("a string takes it all");
        }
        let leechers = self.nodes.len() as u64 - 1;
        let (by_seeder, by_leechers) = self.uploaded();
        let rate = (self.size * leechers) as f64 / time.as_secs_f64().max(0.001);
        let share = by_leechers as f64 * 100.0 / (by_seeder + by_leechers).max(1) as f64;
        write!(
            text,
            "\n{} to {} in {:.2} s: {}, {share:.0}% of it from one downloader to another.\n\
             Every copy is right: SHA-256 {sha256}.\n",
            human::size(self.size),
            human::count(leechers, "downloader"),
            time.as_secs_f64(),
            human::rate(rate as u64),
        )
        .expect("a string takes it all");
        text
    }
}

fn rates(progress: &Progress, complete: bool) -> String {
    let up = human::rate(progress.upload_rate);
    let peers = human::count(progress.peers.into(), "peer");
    match complete {
        true => format!("seeding  up {up}  {peers}"),
        false => format!("down {}  up {up}  {peers}", human::rate(progress.download_rate)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(out: &Output) -> Board<'_> {
        Board::new(out, 1 << 20, ["seeder", "leecher-1", "leecher-2"].into_iter().map(String::from))
    }

    #[test]
    fn the_swarm_is_complete_when_the_last_one_is() {
        let out = Output::new(true);
        let mut board = board(&out);
        assert!(!board.is_complete());
        for node in [1, 2] {
            assert!(!board.is_complete());
            board.nodes[node].complete = true;
        }
        assert!(board.is_complete());
    }

    #[test]
    fn the_summary_tells_who_gave() {
        let out = Output::new(true);
        let mut board = board(&out);
        let given = [1 << 20, 768 << 10, 256 << 10];
        for (node, uploaded) in board.nodes.iter_mut().zip(given) {
            node.last = Progress { uploaded, downloaded: 1 << 20, ..Progress::default() };
        }
        assert_eq!(board.uploaded(), (1 << 20, 1 << 20));
        assert_eq!(
            board.summary(Duration::from_millis(500), "abc"),
            "                 fetched         given\n\
             seeder                 -       1.0 MiB\n\
             leecher-1        1.0 MiB     768.0 KiB\n\
             leecher-2        1.0 MiB     256.0 KiB\n\n\
             1.0 MiB to 2 downloaders in 0.50 s: 4.0 MiB/s, 50% of it from one downloader to another.\n\
             Every copy is right: SHA-256 abc.\n"
        );
    }

    #[test]
    fn the_plain_line_adds_the_downloaders_up() {
        let out = Output::new(true);
        let mut board = board(&out);
        assert!(board.combined().starts_with("0.0%  0 B of 2.0 MiB"));
        board.nodes[1].last = Progress { left: 0, download_rate: 1 << 20, ..Progress::default() };
        board.nodes[2].last = Progress { left: 1 << 19, download_rate: 1 << 20, ..Progress::default() };
        assert_eq!(board.combined(), "75.0%  1.5 MiB of 2.0 MiB  2.0 MiB/s");
    }
}
