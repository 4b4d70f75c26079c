//! Writing a torrent file (BEP 3, 12, 27).

use super::{MAX_PIECE_LENGTH, Torrent, TorrentError};
use crate::bencode::{self, DictWriter};

/// Pieces that [`default_piece_length`] allows before it doubles their length.
const MAX_DEFAULT_PIECES: u64 = 2000;
const MIN_DEFAULT_PIECE_LENGTH: u64 = 16 * 1024;
const MAX_DEFAULT_PIECE_LENGTH: u64 = 16 * 1024 * 1024;
/// Most pieces by default whatever their length: their hashes take 20 MiB, and leave room for the names of files in what
/// a torrent file may have.
const MOST_DEFAULT_PIECES: u64 = 1 << 20;

/// Piece length in bytes for this many bytes of files: the power of two from 16 KiB to 16 MiB that gives 1000 to
/// 2000 pieces, or comes nearest to that. Past 16 TiB it is as much longer as the torrent file needs.
pub fn default_piece_length(total: u64) -> u32 {
    let length = total.div_ceil(MAX_DEFAULT_PIECES).next_power_of_two();
    let length = length.clamp(MIN_DEFAULT_PIECE_LENGTH, MAX_DEFAULT_PIECE_LENGTH);
    let least = total.div_ceil(MOST_DEFAULT_PIECES).next_power_of_two();
    length.max(least).min(u64::from(MAX_PIECE_LENGTH)) as u32
}

/// Why no torrent can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Other programs, and this one, would store the file under another name than it has here.
    #[error("{path:?} cannot be in a torrent under that name; it would be stored as {stored:?}")]
    Name {
        /// The name given.
        path: String,
        /// The name that a reader makes of it.
        stored: String,
    },
    /// A reader would refuse the torrent.
    #[error("no torrent can be made of this: {0}")]
    Refused(#[from] TorrentError),
}

/// The files of a new torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One file of this many bytes; its name is the torrent's.
    Single(u64),
    /// Files beneath a directory, which has the torrent's name: path components and length in bytes of each.
    Multi(Vec<(Vec<String>, u64)>),
}

/// What a new torrent file shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorrentBuilder {
    /// Name of the file, or of the directory of the files.
    pub name: String,
    /// The files, in the order of their bytes.
    pub content: Content,
    /// Bytes a piece.
    pub piece_length: u32,
    /// SHA-1 of each piece.
    pub pieces: Vec<[u8; 20]>,
    /// URLs by tier (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Whether peers may only come from the trackers (BEP 27).
    pub private: bool,
    /// A comment.
    pub comment: Option<String>,
    /// The program that makes the file.
    pub created_by: Option<String>,
    /// Seconds of the Unix epoch. Not part of the info-hash, but without it two runs give the same bytes.
    pub creation_date: Option<i64>,
}

impl TorrentBuilder {
    /// Writes the torrent file, canonically, and reads it back: what comes out is what others will make of it.
    ///
    /// # Errors
    /// When a reader would refuse the torrent or store a file under another name.
    pub fn build(&self) -> Result<(Vec<u8>, Torrent), BuildError> {
        let bytes = self.encode();
        let torrent = Torrent::parse(&bytes)?;
        let stored = torrent.files.iter().map(|file| file.path.join("/"));
        match self.paths().into_iter().zip(stored).find(|(path, stored)| path != stored) {
            Some((path, stored)) => Err(BuildError::Name { path, stored }),
            None => Ok((bytes, torrent)),
        }
    }

    fn paths(&self) -> Vec<String> {
        match &self.content {
            Content::Single(_) => vec![self.name.clone()],
            Content::Multi(files) => {
                files.iter().map(|(path, _)| format!("{}/{}", self.name, path.join("/"))).collect()
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        bencode::write_dict(|root| {
            if let Some(first) = self.trackers.iter().flatten().next() {
                root.bytes(b"announce", first.as_bytes());
            }
            if self.trackers.iter().flatten().count() > 1 {
                root.list(b"announce-list", |tiers| {
                    for tier in &self.trackers {
                        tiers.list(|urls| tier.iter().for_each(|url| urls.bytes(url.as_bytes())));
                    }
                });
            }
            if let Some(comment) = &self.comment {
                root.bytes(b"comment", comment.as_bytes());
            }
            if let Some(program) = &self.created_by {
                root.bytes(b"created by", program.as_bytes());
            }
            if let Some(date) = self.creation_date {
                root.int(b"creation date", date);
            }
            root.dict(b"info", |info| self.encode_info(info));
        })
    }

    fn encode_info(&self, info: &mut DictWriter<'_>) {
        match &self.content {
            Content::Single(length) => info.int(b"length", saturate(*length)),
            Content::Multi(files) => info.list(b"files", |list| {
                for (path, length) in files {
                    list.dict(|file| {
                        file.int(b"length", saturate(*length));
                        file.list(b"path", |names| path.iter().for_each(|name| names.bytes(name.as_bytes())));
                    });
                }
            }),
        }
        info.bytes(b"name", self.name.as_bytes());
        info.int(b"piece length", i64::from(self.piece_length));
        info.bytes(b"pieces", self.pieces.as_flattened());
        // The key itself, whatever its value, would change the info-hash.
        if self.private {
            info.int(b"private", 1);
        }
    }
}

/// Lengths past 63 bits end up as one that no reader takes.
fn saturate(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
