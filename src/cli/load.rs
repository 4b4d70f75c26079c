//! `seedring load`: how fast any client is, and at what cost.

use super::args::{LoadArgs, LoadMode, LoadOrder};
use super::json::Line;
use super::output::Output;
use super::{Error, torrent_file};
use crate::load::{self, Goal, Meeting, Mode, Order, Plan};
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn run(args: &LoadArgs, out: &Output) -> Result<ExitCode, Error> {
    let torrent = torrent_file::read(&args.file)?;
    let meeting = match (args.peer, args.listen) {
        (Some(addr), _) => Meeting::Dial(addr),
        (None, Some(addr)) => Meeting::Listen(addr),
        (None, None) => unreachable!("one of them is required"),
    };
    let goal = match (args.bytes, args.bytes_per_connection) {
        (Some(bytes), _) => Goal::Together(bytes),
        (None, Some(bytes)) => Goal::Each(bytes),
        (None, None) => Goal::Each(torrent.layout.total()),
    };
    let order = match args.order {
        LoadOrder::Sequential => Order::Sequential,
        LoadOrder::Scattered => Order::Scattered,
    };
    let mode = match args.mode {
        LoadMode::Download => Mode::Download { goal, order, requests: args.requests.into() },
        LoadMode::Upload => Mode::Upload,
    };
    let plan = Plan {
        folder: args.dir.clone(),
        meeting,
        connections: args.connections.into(),
        allow_fewer: args.allow_fewer,
        mode,
        duration: args.seconds.map(Duration::from_secs),
        timeout: Duration::from_secs(args.timeout),
    };
    let report = load::run(&plan, &torrent, |addr| {
        out.emit(&Line::Listening { addr });
        out.note(&format!("listening at {addr}"));
    })?;
    let line = Line::Load(&report);
    out.emit(&line);
    out.print(&format!("{}\n", serde_json::to_string_pretty(&line).expect("a line has only plain values")));
    match report.problem {
        Some(problem) => Err(Error::Other(problem)),
        None => Ok(ExitCode::SUCCESS),
    }
}
