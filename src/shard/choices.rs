//! What the user wants of a torrent, beside what and where it is.

use crate::metainfo::{FileEntry, FileKind, Torrent};
use crate::swarm::{IpFilter, Priority, SeedChoker, Selection, Throttle};
use std::sync::Arc;

/// See the module. The default is all of it, the rarest first, as fast as it goes.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// A priority for each file; without them, all are wanted alike.
    pub files: Option<Vec<Priority>>,
    /// Whether pieces are fetched in their order.
    pub sequential: bool,
    /// Whom a seed serves first.
    pub seed_choker: SeedChoker,
    /// Whether a seed shows its pieces to each peer one by one (BEP 16).
    pub super_seed: bool,
    /// Limits of what goes up.
    pub upload: Throttle,
    /// Limits of what comes down.
    pub download: Throttle,
    /// Most connections with one host, when not as many as usual.
    pub most_of_host: Option<usize>,
    /// Addresses to have nothing to do with.
    pub filter: Option<Arc<IpFilter>>,
}

impl Choices {
    /// What is wanted of the torrent.
    pub(super) fn selection(&self, torrent: &Torrent) -> Selection {
        let Some(files) = &self.files else { return Selection::all(torrent.layout.piece_count()) };
        let of = |(at, file): (usize, &FileEntry)| match file.kind {
            FileKind::Regular => files.get(at).copied().unwrap_or_default(),
            // Nobody wants those for themselves.
            _ => Priority::Skip,
        };
        let priorities: Vec<Priority> = torrent.files.iter().enumerate().map(of).collect();
        Selection::of_files(&torrent.layout, &priorities)
    }
}
