//! `seedring create`: a torrent file of a file or folder.

use super::args::{CreateArgs, cores};
use super::json::Line;
use super::output::Output;
use super::progress::Steps;
use super::torrent_file::Target;
use super::{Error, human};
use crate::discovery::tracker::TrackerUrl;
use crate::metainfo::Torrent;
use crate::session::{self, CreateOptions};
use std::process::ExitCode;

pub(super) fn run(args: &CreateArgs, out: &Output) -> Result<ExitCode, Error> {
    let target = Target::new(&args.output, &args.path)?;
    if let Some(length) = args.piece_length.filter(|length| !length.is_power_of_two() || *length < 16 * 1024)
    {
        out.warn(&format!(
            "some programs refuse a piece length of {length}: it is no power of two from 16 KiB up"
        ));
    }
    let urls = || args.announce.iter().filter(|url| !url.is_empty());
    for (url, error) in urls().filter_map(|url| Some((url, TrackerUrl::parse(url).err()?))) {
        out.warn(&format!("{url} is for other programs: {error}"));
    }
    // Every tracker is a tier of its own (BEP 12): the second is asked when the first does not answer.
    let trackers = urls().map(|url| vec![url.clone()]).collect();
    let options = CreateOptions {
        piece_length: args.piece_length,
        trackers,
        private: args.private,
        comment: args.comment.clone(),
    };
    let mut steps = Steps::new(out, "hashing", "pieces");
    let (bytes, torrent) =
        session::create(&args.path, &options, cores(args.cores), |done, pieces| steps.show(done, pieces))?;
    drop(steps);
    target.write(&bytes)?;
    report(&torrent, &args.output.to_string_lossy(), out);
    Ok(ExitCode::SUCCESS)
}

fn report(torrent: &Torrent, file: &str, out: &Output) {
    let layout = &torrent.layout;
    out.emit(&Line::Created {
        file,
        name: &torrent.name,
        info_hash: torrent.info_hash.to_string(),
        length: layout.total(),
        piece_length: layout.piece_length(),
        pieces: layout.piece_count(),
        files: torrent.files.len(),
    });
    out.print(&format!(
        "{file}: {}, {} in {} of {}\n{}\n",
        human::size(layout.total()),
        human::count(torrent.files.len() as u64, "file"),
        human::count(layout.piece_count().into(), "piece"),
        human::size(layout.piece_length().into()),
        torrent.info_hash,
    ));
}
