//! `seedring show --scrape`: what the trackers of a torrent count.

use super::finding::TrustArgs;
use super::json::Line;
use super::output::Output;
use super::{Error, human};
use crate::metainfo::Torrent;
use crate::session::{Scraped, scrape};
use std::process::ExitCode;

/// Asks all trackers at once, and tells what each says as soon as it does. Fails when none answers.
pub(super) fn run(torrent: &Torrent, trust: &TrustArgs, out: &Output) -> Result<ExitCode, Error> {
    let options = trust.options()?;
    let mut answered = false;
    let runtime = super::control_runtime()?;
    let all = scrape(torrent, options, |scraped| {
        answered |= scraped.result.is_ok();
        tell(&scraped, out);
    });
    runtime.block_on(all);
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
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
