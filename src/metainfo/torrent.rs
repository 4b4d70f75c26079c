//! Reading a torrent file (BEP 3, 12, 27, 47).

use super::magnet::url;
use super::path::{self, TooManyClashes};
use super::{InfoHash, Layout, LayoutError, PART_SUFFIX, PieceIndex};
use crate::bencode::{self, Dict, List, Value};
use sha1::{Digest, Sha1};
use std::sync::Arc;

/// Largest torrent file that is read, in bytes.
pub const MAX_TORRENT_LEN: usize = 32 * 1024 * 1024;
/// How many values an info dictionary may hold that came from peers.
const MAX_METADATA_TOKENS: usize = 2_500_000;
/// How many components the path of a file may have.
const MAX_PATH_DEPTH: usize = 100;
/// Longest path in bytes, separators and [`PART_SUFFIX`] included: what one system call takes, less the NUL.
const MAX_PATH_LEN: usize = 4095;
/// What the names of pad files begin with that BitComet made, long before BEP 47 gave them an attribute.
const BITCOMET_PAD: &str = "_____padding_file_";

/// Most nodes of the DHT that a torrent file may name; the others are left out.
const MAX_DHT_NODES: usize = 32;

/// Why a torrent file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TorrentError {
    /// More than [`MAX_TORRENT_LEN`] bytes.
    #[error("the torrent file has more than {MAX_TORRENT_LEN} bytes")]
    TooLarge,
    /// The file is not bencoded.
    #[error("this is not a torrent file: {0}")]
    Bencode(#[from] bencode::Error),
    /// The file holds something else than a dictionary.
    #[error("this is not a torrent file: it holds no dictionary")]
    NotADictionary,
    /// No `info` dictionary.
    #[error("the torrent has no info dictionary")]
    MissingInfo,
    /// BitTorrent v2 (BEP 52) without the v1 part of a hybrid.
    #[error("this is a BitTorrent v2 torrent; only v1 and hybrid torrents are supported")]
    V2Only,
    /// `piece length` is absent, no integer, or not positive.
    #[error("the torrent has no valid piece length")]
    MissingPieceLength,
    /// The torrent or one of its files has no name.
    #[error("the torrent or one of its files has no name")]
    MissingName,
    /// A path holds something else than strings.
    #[error("the path of a file holds something that is not a name")]
    InvalidName,
    /// The length of a file is absent, no integer, or negative.
    #[error("the length of a file is missing or not valid")]
    InvalidLength,
    /// The list of files is empty.
    #[error("the torrent has no files")]
    NoFiles,
    /// More than 100 components in a path.
    #[error("the path of a file has more than {MAX_PATH_DEPTH} components")]
    PathTooDeep,
    /// A path the system could not open.
    #[error("the path of a file is longer than {MAX_PATH_LEN} bytes")]
    PathTooLong,
    /// More files of the same name than an honest torrent has.
    #[error("too many files of the torrent have the same name")]
    TooManyDuplicateNames,
    /// Lengths and piece length do not make a sensible torrent.
    #[error("{0}")]
    Layout(#[from] LayoutError),
    /// `pieces` is absent or no string.
    #[error("the torrent has no piece hashes")]
    MissingPieces,
    /// `pieces` is not 20 bytes for each piece.
    #[error("the torrent has {bytes} bytes of piece hashes where its {pieces} pieces need 20 each")]
    InvalidHashes {
        /// Length of `pieces`.
        bytes: usize,
        /// Pieces by the lengths of the files.
        pieces: u32,
    },
}

/// What an entry of a torrent's file list stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    Regular,
    /// Zeros that align the next file (BEP 47). Never on disk, so its path says nothing and may be there twice.
    Pad,
    /// A symbolic link (BEP 47), of no length. Never created and never followed.
    Symlink,
}

/// An entry of a torrent's file list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Sanitised components, from the download folder down; with several files the torrent's name comes first.
    /// No two paths are equal (pads aside), none is a directory of another, and none is another's with
    /// [`PART_SUFFIX`].
    pub path: Vec<String>,
    /// Length in bytes.
    pub length: u64,
    /// What it stands for.
    pub kind: FileKind,
    /// Whether the file wants the permission to be executed (BEP 47).
    pub executable: bool,
}

/// What a torrent file says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torrent {
    /// SHA-1 of the `info` dictionary as it stands in the file.
    pub info_hash: InfoHash,
    /// Name of the file, or of the directory of the files; sanitised.
    pub name: String,
    /// How pieces lie across `files`.
    pub layout: Layout,
    /// The files, in the order of the layout: `files[index.as_usize()]`.
    pub files: Vec<FileEntry>,
    /// Names of files and folders that are other ones here, in each path: cut short, cleaned, or taken by another file.
    pub changed_names: usize,
    /// Peers may only come from the trackers (BEP 27).
    pub private: bool,
    /// URLs by tier (BEP 12): every tier has one or more. Not checked beyond being printable text.
    pub trackers: Vec<Vec<String>>,
    /// Nodes of the DHT to begin with (BEP 5): hosts, by name or address, and their UDP ports.
    pub nodes: Vec<(String, u16)>,
    /// A comment, cleaned for display.
    pub comment: Option<String>,
    /// The program that made the file, cleaned for display.
    pub created_by: Option<String>,
    /// When the file was made, in seconds of the Unix epoch.
    pub creation_date: Option<i64>,
    hashes: Box<[[u8; 20]]>,
    metadata: Arc<[u8]>,
}

impl Torrent {
    /// Reads a torrent file. Of a hybrid torrent (BEP 52) the v1 part is read.
    ///
    /// # Errors
    /// When the file is not a v1 or hybrid torrent, or breaks a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, TorrentError> {
        if bytes.len() > MAX_TORRENT_LEN {
            return Err(TorrentError::TooLarge);
        }
        let (document, duplicate_key) = bencode::parse_with_duplicates(bytes)?;
        let torrent = Self::read(document.root.dict().ok_or(TorrentError::NotADictionary)?)?;
        match duplicate_key {
            Some(error) => Err(error.into()),
            None => Ok(torrent),
        }
    }

    /// Reads an info dictionary that came from peers (BEP 9), already compared with its info-hash.
    ///
    /// # Errors
    /// When it is not that of a v1 or hybrid torrent, or breaks a limit.
    pub fn from_metadata(metadata: &[u8], trackers: &[Vec<String>]) -> Result<Self, TorrentError> {
        if metadata.len() > MAX_TORRENT_LEN {
            return Err(TorrentError::TooLarge);
        }
        bencode::validate_within(metadata, bencode::Trailing::Refuse, MAX_METADATA_TOKENS)?;
        let mut file = b"d4:info".to_vec();
        file.extend_from_slice(metadata);
        file.push(b'e');
        let torrent = Self::parse(&file)?;
        Ok(Self { trackers: trackers.to_vec(), ..torrent })
    }

    /// The info dictionary as it stands in the file: what peers are sent that ask for metadata (BEP 9).
    pub fn metadata(&self) -> &Arc<[u8]> {
        &self.metadata
    }

    fn read(root: Dict<'_>) -> Result<Self, TorrentError> {
        let raw_info = root.get(b"info").ok_or(TorrentError::MissingInfo)?;
        let info = raw_info.dict().ok_or(TorrentError::MissingInfo)?;
        if info.get(b"pieces").is_none() && info.get(b"file tree").is_some() {
            return Err(TorrentError::V2Only);
        }
        let info_hash = InfoHash(Sha1::digest(raw_info.raw()).into());
        let piece_length = info.get(b"piece length").and_then(unsigned).filter(|n| *n > 0);
        let piece_length = piece_length.ok_or(TorrentError::MissingPieceLength)?;
        let Content { name, files, changed_names } = read_content(info, info_hash)?;
        let layout = Layout::new(piece_length, files.iter().map(|file| file.length))?;
        let hashes = read_hashes(info, &layout)?;
        let text = |key: &[u8]| {
            root.get(key).and_then(Value::bytes).map(path::display_text).filter(|t| !t.is_empty())
        };
        Ok(Self {
            info_hash,
            name,
            layout,
            files,
            changed_names,
            private: info.get(b"private").and_then(Value::int).is_some_and(|flag| flag != 0),
            trackers: read_trackers(root),
            nodes: read_nodes(root),
            comment: text(b"comment"),
            created_by: text(b"created by"),
            creation_date: root.get(b"creation date").and_then(Value::int),
            hashes,
            metadata: raw_info.raw().into(),
        })
    }

    /// What it is known by in a download folder: the name of its file, or of the folder that holds its files.
    pub fn root(&self) -> &str {
        self.files.first().and_then(|file| file.path.first()).map_or("", String::as_str)
    }

    /// The SHA-1 that the piece must have.
    ///
    /// # Panics
    /// When the piece is one of another, larger torrent.
    pub fn piece_hash(&self, piece: PieceIndex) -> [u8; 20] {
        self.hashes[piece.as_usize()]
    }
}

fn unsigned(value: Value<'_>) -> Option<u64> {
    value.int().and_then(|n| u64::try_from(n).ok())
}

/// What a torrent holds, under names that are safe here.
struct Content {
    name: String,
    files: Vec<FileEntry>,
    changed_names: usize,
}

/// The torrent's name as it stands there.
fn read_name(info: Dict<'_>) -> Result<&[u8], TorrentError> {
    // The UTF-8 twin is what other clients show and store under, so it wins where it keeps its promise.
    let utf8 = info.get(b"name.utf-8").and_then(Value::text).map(str::as_bytes);
    utf8.or_else(|| info.get(b"name").and_then(Value::bytes)).ok_or(TorrentError::MissingName)
}

fn read_content(info: Dict<'_>, info_hash: InfoHash) -> Result<Content, TorrentError> {
    let raw = read_name(info)?;
    let name = path::usable(raw);
    let changed = usize::from(name.as_ref().is_none_or(|name| name.as_bytes() != raw));
    if let Some(list) = info.get(b"files").and_then(Value::list) {
        let name = name.unwrap_or_else(|| info_hash.to_string());
        let (files, others) = read_files(list, &name)?;
        return Ok(Content { name, files, changed_names: changed + others });
    }
    let name = name.ok_or(TorrentError::MissingName)?;
    let length = info.get(b"length").and_then(unsigned).ok_or(TorrentError::InvalidLength)?;
    let executable = Attributes::of(info).executable;
    let file = FileEntry { path: vec![name.clone()], length, kind: FileKind::Regular, executable };
    Ok(Content { name, files: vec![file], changed_names: changed })
}

/// The files of a torrent of the given name, and how many names have changed.
fn read_files(list: List<'_>, name: &str) -> Result<(Vec<FileEntry>, usize), TorrentError> {
    let mut changed = 0;
    let entry =
        |value: Value<'_>| read_file(value.dict().ok_or(TorrentError::InvalidLength)?, name, &mut changed);
    let mut files = list.map(entry).collect::<Result<Vec<_>, _>>()?;
    if files.is_empty() {
        return Err(TorrentError::NoFiles);
    }
    let on_disk = files.iter_mut().filter(|file| file.kind != FileKind::Pad);
    let mut paths: Vec<_> = on_disk.map(|file| &mut file.path).collect();
    changed += path::make_unique(&mut paths).map_err(|TooManyClashes| TorrentError::TooManyDuplicateNames)?;
    let longest = paths.iter().map(|path| path.iter().map(|name| name.len() + 1).sum::<usize>()).max();
    if longest.is_some_and(|len| len - 1 + PART_SUFFIX.len() > MAX_PATH_LEN) {
        return Err(TorrentError::PathTooLong);
    }
    Ok((files, changed))
}

/// Reads one entry of `files`, of a torrent of the given name; adds to `changed` how many names are other ones here.
fn read_file(file: Dict<'_>, name: &str, changed: &mut usize) -> Result<FileEntry, TorrentError> {
    let attributes = Attributes::of(file);
    let length = match attributes.symlink {
        true => 0,
        false => file.get(b"length").and_then(unsigned).ok_or(TorrentError::InvalidLength)?,
    };
    let path = match read_path(file, name, changed)? {
        Some(path) => path,
        None if attributes.pad => vec![".pad".into(), length.to_string()],
        None => return Err(TorrentError::MissingName),
    };
    let pad = attributes.pad || path.last().is_some_and(|last| last.starts_with(BITCOMET_PAD));
    let kind = match (attributes.symlink, pad) {
        (true, _) => FileKind::Symlink,
        (_, true) => FileKind::Pad,
        _ => FileKind::Regular,
    };
    Ok(FileEntry { path, length, kind, executable: attributes.executable })
}

/// The sanitised path; `None` when there is none or it has no components.
fn read_path(file: Dict<'_>, name: &str, changed: &mut usize) -> Result<Option<Vec<String>>, TorrentError> {
    let names = |key: &[u8]| file.get(key).and_then(Value::list);
    let utf8 = names(b"path.utf-8").filter(|list| list.clone().all(|name| name.text().is_some()));
    let Some(raw) = utf8.filter(|list| list.clone().next().is_some()).or_else(|| names(b"path")) else {
        return Ok(None);
    };
    let mut path = vec![name.to_owned()];
    for element in raw {
        let raw = element.bytes().ok_or(TorrentError::InvalidName)?;
        let name = path::component(raw);
        *changed += usize::from(name.as_bytes() != raw);
        path.push(name);
        if path.len() > MAX_PATH_DEPTH {
            return Err(TorrentError::PathTooDeep);
        }
    }
    Ok((path.len() > 1).then_some(path))
}

/// The letters of `attr` (BEP 47) that mean something here.
struct Attributes {
    executable: bool,
    pad: bool,
    symlink: bool,
}

impl Attributes {
    fn of(file: Dict<'_>) -> Self {
        let letters = file.get(b"attr").and_then(Value::bytes).unwrap_or_default();
        let has = |letter| letters.contains(&letter);
        Self { executable: has(b'x'), pad: has(b'p'), symlink: has(b'l') }
    }
}

fn read_hashes(info: Dict<'_>, layout: &Layout) -> Result<Box<[[u8; 20]]>, TorrentError> {
    let raw = info.get(b"pieces").and_then(Value::bytes).ok_or(TorrentError::MissingPieces)?;
    let (hashes, remainder) = raw.as_chunks();
    let pieces = layout.piece_count();
    if !remainder.is_empty() || hashes.len() != pieces as usize {
        return Err(TorrentError::InvalidHashes { bytes: raw.len(), pieces });
    }
    Ok(hashes.into())
}

/// The tiers of `announce-list`, or `announce` as the only one when the list names no tracker (BEP 12).
fn read_trackers(root: Dict<'_>) -> Vec<Vec<String>> {
    let list = root.get(b"announce-list").and_then(Value::list);
    let tiers = list.into_iter().flatten().filter_map(Value::list);
    let read = |value: Value<'_>| url(value.bytes()?);
    let tiers: Vec<Vec<_>> = tiers.map(|tier| tier.filter_map(read).collect()).collect();
    let mut tiers: Vec<_> = tiers.into_iter().filter(|tier| !tier.is_empty()).collect();
    if tiers.is_empty() {
        tiers.extend(root.get(b"announce").and_then(read).map(|url| vec![url]));
    }
    tiers
}

/// Those of `nodes` (BEP 5) that can be hosts and ports.
fn read_nodes(root: Dict<'_>) -> Vec<(String, u16)> {
    let pair = |entry: Value<'_>| {
        let mut fields = entry.list()?;
        let host = fields.next()?.text()?.trim_matches(['[', ']']);
        let port = u16::try_from(fields.next()?.int()?).ok()?;
        let possible = |c: char| c.is_alphanumeric() || ['.', ':', '-', '_', '%'].contains(&c);
        let host = Some(host).filter(|host| (1..256).contains(&host.len()) && host.chars().all(possible))?;
        (port != 0).then(|| (host.to_owned(), port))
    };
    let list = root.get(b"nodes").and_then(Value::list);
    list.into_iter().flatten().filter_map(pair).take(MAX_DHT_NODES).collect()
}
