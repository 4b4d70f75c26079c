//! `seedring show --scrape`: what the trackers of a torrent count.

use super::finding::FindArgs;
use super::json::Line;
use super::output::Output;
use super::signals::Signals;
use super::{Error, human};
use crate::discovery::tracker::TrackerOptions;
use crate::metainfo::Torrent;
use crate::session::{Listen, Scraped, scrape};
use std::process::ExitCode;

/// How trackers are asked: from where we would listen.
pub(super) fn trackers(find: &FindArgs) -> Result<TrackerOptions, Error> {
    let Some(options) = find.trackers.options()? else {
        return Err(Error::Other("no tracker is to be asked (--no-trackers), so none can be scraped".into()));
    };
    let listen = match find.listen() {
        Listen::At(addr) => Some(addr),
        Listen::Default => None,
    };
    Ok(TrackerOptions { listen, ..options })
}

/// Asks all trackers at once, and tells what each says as soon as it does. Fails when none answers.
pub(super) async fn run(
    torrent: &Torrent,
    trackers: TrackerOptions,
    signals: &Signals,
    out: &Output,
) -> Result<ExitCode, Error> {
    let mut answered = false;
    let all = scrape(torrent, trackers, |scraped| {
        answered |= scraped.result.is_ok();
        tell(&scraped, out);
    });
    tokio::select! {
        () = all => {}
        () = signals.stopped() => return Err(signals.error()),
    }
    if answered { Ok(ExitCode::SUCCESS) } else { Err(Error::Other("no tracker could be scraped".into())) }
}

fn tell(scraped: &Scraped, out: &Output) {
    let url = &scraped.tracker;
    match &scraped.result {
        Ok(counts) => {
            let counts = counts.unwrap_or_default();
            let (seeds, leeches, downloaded) = (counts.complete, counts.incomplete, counts.downloaded);
            out.emit(&Line::Scrape { url, seeds, leeches, downloaded });
            let number = |count: Option<u64>, what| match count {
                Some(count) => human::count(count, what),
                None => format!("unknown {}", human::many(what)),
            };
            let (seeds, leeches) = (number(seeds, "seed"), number(leeches, "leech"));
            let downloads = number(downloaded, "download");
            out.print(&format!("{url}  {seeds}, {leeches}, {downloads}\n"));
        }
        Err(reason) => {
            out.emit(&Line::ScrapeFailed { url, reason });
            out.print(&format!("{url}  {reason}\n"));
        }
    }
}
