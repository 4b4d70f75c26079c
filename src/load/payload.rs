//! The torrent's bytes as they should be: its files, mapped.

use super::LoadError;
use crate::metainfo::{Block, FileKind, Layout, PieceIndex, Torrent};
use crate::ring::{FileMap, Parts};
use crate::storage::{Folder, memory};
use std::path::Path;

/// What a pad file holds; no span of a block is longer.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// All files of a torrent.
pub(super) struct Payload {
    layout: Layout,
    /// One a file; none for those that are only zeros.
    maps: Vec<Option<FileMap>>,
}

impl Payload {
    /// Maps the files below `folder`. They must have their lengths; whether their bytes are right is not looked at.
    ///
    /// # Errors
    /// When a file cannot be opened or mapped, or has another length than the torrent says.
    pub(super) fn open(torrent: &Torrent, folder: &Path) -> Result<Self, LoadError> {
        let below = Folder::open(folder, false)?;
        let mut maps = Vec::with_capacity(torrent.files.len());
        for file in &torrent.files {
            if file.kind != FileKind::Regular {
                maps.push(None);
                continue;
            }
            let fail = |cause: std::io::Error| {
                LoadError::Setup(format!("cannot map {}/{}: {cause}", folder.display(), file.path.join("/")))
            };
            let open = below.open_to_read(&file.path)?;
            let len = rustix::fs::fstat(&open).map_err(|cause| fail(cause.into()))?.st_size;
            if u64::try_from(len).ok() != Some(file.length) {
                let why = format!("it has {len} bytes where the torrent says {}", file.length);
                return Err(fail(std::io::Error::other(why)));
            }
            maps.push(Some(FileMap::new(&open, file.length).map_err(fail)?));
        }
        let payload = Self { layout: torrent.layout.clone(), maps };
        payload.populate();
        Ok(payload)
    }

    /// Reads all into the page cache, so that the run itself waits for no disk. Not when it would fill the memory.
    fn populate(&self) {
        if self.layout.total() <= memory() / 2 {
            self.maps.iter().flatten().for_each(FileMap::populate);
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the piece has these bytes from `begin` on.
    pub(super) fn has(&self, piece: PieceIndex, begin: u32, bytes: &[u8]) -> bool {
        let len = u32::try_from(bytes.len()).expect("part of a block");
        self.layout.spans(piece, begin, len).all(|span| {
            let part = &bytes[span.at as usize..][..span.len as usize];
            match &self.maps[span.file.as_usize()] {
                Some(map) => map.has(span.offset, part),
                None => part == &ZEROS[..part.len()],
            }
        })
    }

    /// Adds the block's bytes to what is to be sent.
    pub(super) fn gather<'a>(&'a self, block: &Block, parts: &mut Parts<'a>) {
        for span in self.layout.spans(block.piece, block.begin, block.len) {
            match &self.maps[span.file.as_usize()] {
                Some(map) => parts.push_map(map, span.offset..span.offset + u64::from(span.len)),
                None => parts.push(&ZEROS[..span.len as usize]),
            }
        }
    }
}
