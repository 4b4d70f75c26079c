//! `seedring show`: what a torrent file says.

use super::args::ShowArgs;
use super::json::{Line, TorrentFile};
use super::output::Output;
use super::signals::Signals;
use super::source::Source;
use super::{Error, human, scrape, source};
use crate::metainfo::FileKind;
use std::fmt::Write;
use std::process::ExitCode;

pub(super) fn run(args: &ShowArgs, out: &Output) -> Result<ExitCode, Error> {
    let runtime = super::control_runtime()?;
    let result = runtime.block_on(async {
        let signals = Signals::catch()?;
        let shunned = args.find.shun.read(out)?;
        let trackers = args.scrape.then(|| scrape::trackers(&args.find)).transpose()?;
        let source = source::find(&args.file, &args.find, shunned, &signals, out).await?;
        if out.is_json() {
            out.emit(&line(&source));
        } else {
            out.print(&text(&source));
        }
        source.farewell.say().await;
        match trackers {
            Some(trackers) => scrape::run(&source.torrent, trackers, &signals, out).await,
            None => Ok(ExitCode::SUCCESS),
        }
    });
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
    result
}

fn line(source: &Source) -> Line<'_> {
    let torrent = &source.torrent;
    let files = torrent.files.iter().enumerate().map(|(number, file)| TorrentFile {
        path: file.path.join("/"),
        length: file.length,
        pad: file.kind == FileKind::Pad,
        symlink: file.kind == FileKind::Symlink,
        selected: source.selects(number),
    });
    Line::Torrent {
        name: &torrent.name,
        info_hash: torrent.info_hash.to_string(),
        length: torrent.layout.total(),
        piece_length: torrent.layout.piece_length(),
        pieces: torrent.layout.piece_count(),
        private: torrent.private,
        comment: torrent.comment.as_deref(),
        created_by: torrent.created_by.as_deref(),
        creation_date: torrent.creation_date,
        trackers: &torrent.trackers,
        files: files.collect(),
        changed_names: torrent.changed_names,
    }
}

/// A table of what the torrent says, then its files.
fn text(source: &Source) -> String {
    let torrent = &source.torrent;
    let mut text = String::new();
    let mut row =
        |name: &str, value: &str| writeln!(text, "{name:<12}  {value}").expect("a string takes it all");
    let layout = &torrent.layout;
    row("name", &torrent.name);
    row("info-hash", &torrent.info_hash.to_string());
    row("size", &format!("{} ({} bytes)", human::size(layout.total()), layout.total()));
    row("pieces", &format!("{} of {}", layout.piece_count(), human::size(layout.piece_length().into())));
    row("private", if torrent.private { "yes" } else { "no" });
    for (name, value) in [("comment", &torrent.comment), ("created by", &torrent.created_by)] {
        if let Some(value) = value {
            row(name, value);
        }
    }
    if let Some(seconds) = torrent.creation_date {
        row("created", &format!("{seconds} s of the Unix epoch"));
    }
    for (tier, urls) in torrent.trackers.iter().enumerate() {
        row(&format!("trackers {}", tier + 1), &urls.join("  "));
    }
    row("files", &torrent.files.len().to_string());
    if torrent.changed_names > 0 {
        row(
            "names",
            &format!("{} are not as the torrent has them, so that they can lie here", torrent.changed_names),
        );
    }
    for (number, file) in torrent.files.iter().enumerate() {
        let note = match file.kind {
            FileKind::Regular if !source.selects(number) => "  (not selected by the link)",
            FileKind::Regular => "",
            FileKind::Pad => "  (padding, not on disk)",
            FileKind::Symlink => "  (link, not made)",
        };
        writeln!(text, "{:>12}  {}{note}", human::size(file.length), file.path.join("/"))
            .expect("a string takes it all");
    }
    text
}
