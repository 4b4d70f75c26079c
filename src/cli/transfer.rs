//! `seedring download` and `seedring seed`.

use super::args::{self, DownloadArgs, TransferArgs};
use super::json::Line;
use super::metrics::Metrics;
use super::output::Output;
use super::signals::{Signals, Stop};
use super::watch::Watch;
use super::{Error, source};
use crate::session::{self, CheckReport, Event, Goal, Job, Progress};
use crate::storage;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn download(args: &DownloadArgs, out: &Output) -> Result<ExitCode, Error> {
    let goal = if args.seed { Goal::DownloadAndSeed } else { Goal::Download };
    run(&args.transfer, goal, out)
}

pub(super) fn seed(args: &TransferArgs, out: &Output) -> Result<ExitCode, Error> {
    run(args, Goal::Seed, out)
}

fn run(transfer: &TransferArgs, goal: Goal, out: &Output) -> Result<ExitCode, Error> {
    let runtime = super::control_runtime()?;
    let result = runtime.block_on(async {
        let signals = Signals::catch()?;
        let find = &transfer.find;
        // What is wrong with these is told before anybody is asked for the metadata of a magnet link.
        let shunned = find.shun.read(out)?;
        let metrics = Metrics::start(&transfer.metrics, out).await?;
        let source = source::find(&transfer.file, find, shunned.clone(), &signals, out).await?;
        let choices = match transfer.choices.choices(&source.torrent, &source.files, shunned) {
            Ok(choices) => choices,
            Err(error) => {
                source.farewell.say().await;
                return Err(error);
            }
        };
        let torrent = Arc::new(source.torrent);
        let node = metrics.add(None, &torrent);
        let job = Job {
            torrent: Arc::clone(&torrent),
            folder: transfer.dir.clone(),
            goal,
            listen: find.listen(),
            peers: find.peers.clone(),
            found: source.found,
            id: source.id,
            farewell: source.farewell,
            cores: args::cores(transfer.cores),
            memory_limit: args::payload_memory(transfer.memory_limit, storage::memory()),
            zero_copy_send: transfer.zero_copy_send,
            encryption: find.encryption,
            announce: find.announce(),
            trackers: find.trackers.options()?,
            local_discovery: !find.no_lsd,
            dht: find.dht(),
            pex: !find.no_pex,
            snapshots: metrics.wanted(),
            choices,
        };
        let mut watch = Watch::new(out, &torrent, goal);
        let see = |event: Event| {
            if let (Goal::Seed, Event::Checked(report)) = (goal, &event) {
                warn_of_gaps(report, out);
            }
            metrics.see(node, &event);
            watch.show(&event);
            if let Some(line) = Line::of(&event) {
                out.emit(&line);
            }
            if out.is_closed() {
                signals.stop(Stop::ReaderGone);
            }
        };
        let outcome = session::run(job, see, signals.stopped()).await;
        out.hurry();
        let outcome = outcome?;
        watch.end(&outcome.progress);
        let Progress { downloaded, uploaded, .. } = outcome.progress;
        out.emit(&Line::Stopped { downloaded, uploaded });
        match signals.reason() {
            _ if goal != Goal::Seed && outcome.complete => Ok(ExitCode::SUCCESS),
            // A seed is done when it is told to end; not when nobody is left to tell.
            None | Some(Stop::Interrupt | Stop::Terminate) if goal == Goal::Seed => Ok(ExitCode::SUCCESS),
            Some(why) => Err(Error::Stopped(why)),
            None => Err(Error::Other("the session has ended before the download was complete".into())),
        }
    });
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Tells a person who wants to seed that not everything is there.
fn warn_of_gaps(report: &CheckReport, out: &Output) {
    let bad = report.bad_pieces.len();
    if bad > 0 && report.good_pieces > 0 {
        out.warn(&format!(
            "{bad} of {} pieces are missing or wrong; only the others are served",
            report.pieces
        ));
    }
}
