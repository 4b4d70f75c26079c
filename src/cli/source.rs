//! Where a command gets its torrent from: a torrent file, or a magnet link and the peers that it leads to.

use super::address::address;
use super::finding::FindArgs;
use super::json::Line;
use super::output::Output;
use super::progress::Pace;
use super::shunned::Shunned;
use super::signals::{Signals, Stop};
use super::watch::tell_of_search;
use super::{Error, human, torrent_file};
use crate::metainfo::{HostPort, Magnet, Torrent};
use crate::session::{self, Farewell, MagnetEvent, MagnetJob};
use crate::swarm;
use crate::wire::PeerId;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

/// What a command is about.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) torrent: Torrent,
    /// Where peers of the link are and who has named them, and what we have called ourselves to find them.
    pub(super) found: Vec<(SocketAddr, swarm::Source)>,
    pub(super) id: Option<PeerId>,
    /// Files that a magnet link selects (BEP 53); none named: all.
    pub(super) files: Vec<RangeInclusive<u32>>,
    /// To be said when no session follows.
    pub(super) farewell: Farewell,
}

impl Source {
    /// Whether the link selects the file with this number: where it names none, or there is no link, all are.
    pub(super) fn selects(&self, file: usize) -> bool {
        let number = u32::try_from(file).ok();
        self.files.is_empty()
            || self.files.iter().any(|range| number.is_some_and(|number| range.contains(&number)))
    }

    fn of_file(torrent: Torrent) -> Self {
        let (found, files) = (Vec::new(), Vec::new());
        Self { torrent, found, id: None, files, farewell: Farewell::default() }
    }
}

/// Whether it is an address that is good on one link only.
fn is_of_a_link(peer: &HostPort) -> bool {
    let addr = peer.host.split('%').next().unwrap_or_default();
    addr.parse::<Ipv6Addr>().is_ok_and(|addr| addr.is_unicast_link_local())
}

/// Reads the torrent file that the user named, or finds out what a magnet link stands for; from peers that the filter does not
/// hold, and from so many of one host, if not as many as usual.
pub(super) async fn find(
    name: &Path,
    args: &FindArgs,
    (filter, most_of_host): Shunned,
    signals: &Signals,
    out: &Output,
) -> Result<Source, Error> {
    let Some(link) = name.to_str().filter(|text| Magnet::is_magnet(text)) else {
        return Ok(Source::of_file(torrent_file::read(name)?));
    };
    let magnet = Magnet::parse(link).map_err(|error| Error::Other(error.to_string()))?;
    for peer in magnet.peers.iter().filter(|peer| is_of_a_link(peer)) {
        if let Err(why) = address(&peer.to_string()) {
            out.warn(&format!("the magnet link's peer {peer} is passed over: {why}"));
        }
    }
    let files = magnet.files.clone();
    out.note(&format!("{}: looking for peers that have its metadata", magnet.title()));
    let (mut pace, begun) = (Pace::new(), Instant::now());
    let mut see = |event| match event {
        MagnetEvent::Progress { bytes, peers, limits } if pace.is_due() => {
            out.emit(&Line::Metadata { bytes, limits });
            let peers = human::count(peers as u64, "peer");
            out.note(&format!("{} of metadata from {peers}", human::size(bytes as u64)));
        }
        MagnetEvent::Progress { .. } => {}
        MagnetEvent::Refused { bytes, limits } => out.emit(&Line::Metadata { bytes, limits }),
        MagnetEvent::Told(event) => {
            Line::of(&event).iter().for_each(|line| out.emit(line));
            tell_of_search(out, &event);
        }
    };
    let watch = |event| {
        see(event);
        if out.is_closed() {
            signals.stop(Stop::ReaderGone);
        }
    };
    let job = MagnetJob {
        magnet,
        listen: args.listen(),
        peers: args.peers.clone(),
        announce: args.announce(),
        trackers: args.trackers.options()?,
        local_discovery: !args.no_lsd,
        dht: args.dht(),
        pex: !args.no_pex,
        encryption: args.encryption,
        most_of_host,
        filter,
    };
    let resolved = session::resolve(job, watch, signals.stopped()).await?;
    let Some(resolved) = resolved else {
        return Err(signals.error());
    };
    let session::Resolved { torrent, peers: found, id, farewell, metadata_len: bytes, limits } = resolved;
    out.emit(&Line::Metadata { bytes, limits });
    out.note(&format!("{}: its metadata came in {:.1} s", torrent.name, begun.elapsed().as_secs_f64()));
    Ok(Source { torrent, found, id: Some(id), files, farewell })
}
