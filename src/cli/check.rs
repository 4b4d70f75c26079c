//! `seedring check`: which pieces and files on disk are good.

use super::args::{CheckArgs, cores};
use super::json::Line;
use super::output::Output;
use super::progress::Steps;
use super::{Error, human, torrent_file};
use crate::metainfo::{FileEntry, FileKind, Torrent};
use crate::session::{self, CheckReport, FileReport};
use std::process::ExitCode;

/// Groups of bad pieces that people are shown.
const MAX_GROUPS: usize = 10;

pub(super) fn run(args: &CheckArgs, out: &Output) -> Result<ExitCode, Error> {
    let torrent = torrent_file::read(&args.file)?;
    let mut steps = Steps::new(out, "checking", "pieces");
    let report =
        session::check(&torrent, &args.dir, cores(args.cores), |done, pieces| steps.show(done, pieces))?;
    drop(steps);
    let mut all_good = report.bad_pieces.is_empty();
    for (file, found) in on_disk(&torrent, &report) {
        all_good &= found.good;
        show_file(file, found, out);
    }
    out.emit(&Line::checked(&report));
    out.print(&format!("{}\n", summary(&torrent, &report)));
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files that a download puts on disk, with what was found of them.
fn on_disk<'a>(
    torrent: &'a Torrent,
    report: &'a CheckReport,
) -> impl Iterator<Item = (&'a FileEntry, &'a FileReport)> {
    torrent.files.iter().zip(&report.files).filter(|(file, _)| file.kind == FileKind::Regular)
}

fn show_file(file: &FileEntry, found: &FileReport, out: &Output) {
    let FileReport { pieces, good_pieces, good, ref fault } = *found;
    let path = file.path.join("/");
    let text = match (good, fault) {
        (true, _) => format!("good  {path}\n"),
        (false, Some(fault)) => format!("BAD   {path}  ({fault})\n"),
        (false, None) if good_pieces == pieces => {
            format!("BAD   {path}  (missing, or not of the right length)\n")
        }
        (false, None) => {
            format!("BAD   {path}  ({good_pieces} of {} good)\n", human::count(pieces.into(), "piece"))
        }
    };
    out.emit(&Line::File { path, length: file.length, good, pieces, good_pieces, fault: fault.as_deref() });
    out.print(&text);
}

/// What was found of the whole torrent, for people.
pub(super) fn summary(torrent: &Torrent, report: &CheckReport) -> String {
    let mut text = format!(
        "{} of {} good: {} of {}",
        report.good_pieces,
        human::count(report.pieces.into(), "piece"),
        human::size(report.good_bytes),
        human::size(torrent.layout.total()),
    );
    if report.good_pieces > 0 && !report.bad_pieces.is_empty() {
        text.push_str("; bad: ");
        text.push_str(&human::ranges(&report.bad_pieces, MAX_GROUPS));
    }
    text
}
