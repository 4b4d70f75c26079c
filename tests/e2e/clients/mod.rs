//! Drivers of the clients and of the tracker.

pub(crate) mod aria2;
pub(crate) mod libtorrent;
pub(crate) mod opentracker;
pub(crate) mod seedring;
pub(crate) mod transmission;

use crate::support::{Stage, Torrent};
use std::path::Path;

/// A client at work on one torrent.
pub(crate) trait Client {
    /// Waits until the whole payload is on disk and hash-checked.
    fn wait_complete(&mut self);
}

/// The clients of other people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partner {
    Transmission,
    Libtorrent,
    Aria2,
}

impl Partner {
    /// Starts the partner with the payload in `folder`; the tracker of the torrent tells others about it.
    pub(crate) fn seed(self, stage: &Stage, torrent: &Torrent, folder: &Path) -> Box<dyn Client> {
        match self {
            Self::Transmission => Box::new(transmission::Transmission::start(stage, torrent, folder)),
            Self::Libtorrent => Box::new(libtorrent::Libtorrent::start(stage, torrent, folder, &[])),
            Self::Aria2 => Box::new(aria2::Aria2::seed(stage, torrent, folder, &[])),
        }
    }

    /// Starts the partner with an empty `folder`; it asks the tracker of the torrent for peers.
    pub(crate) fn download(self, stage: &Stage, torrent: &Torrent, folder: &Path) -> Box<dyn Client> {
        match self {
            Self::Aria2 => Box::new(aria2::Aria2::download(stage, torrent, folder, &[])),
            other => other.seed(stage, torrent, folder),
        }
    }
}
