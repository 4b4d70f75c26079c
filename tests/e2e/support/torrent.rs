//! Torrents made by hand, so that the referee is not one of the players.

use super::payload::hex;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A bencoded value; dictionaries are written with their keys sorted.
#[derive(Clone)]
pub(crate) enum Value {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Dict(BTreeMap<Vec<u8>, Value>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    pub(crate) fn dict<const N: usize>(entries: [(&str, Value); N]) -> Self {
        Self::Dict(entries.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value)).collect())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(n) => out.extend_from_slice(format!("i{n}e").as_bytes()),
            Self::Bytes(bytes) => {
                out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
            }
            Self::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.write(out));
                out.push(b'e');
            }
            Self::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    Self::Bytes(key.clone()).write(out);
                    value.write(out);
                }
                out.push(b'e');
            }
        }
    }
}

/// A v1 torrent of a payload on disk, with its metainfo file.
#[derive(Clone)]
pub(crate) struct Torrent {
    /// The metainfo file.
    pub(crate) file: PathBuf,
    pub(crate) info_hash: [u8; 20],
    pub(crate) piece_length: u32,
    /// Payload bytes.
    pub(crate) length: u64,
    /// Path and length of each file of the origin, in the order of the torrent.
    files: Vec<(PathBuf, u64)>,
}

impl Torrent {
    /// Makes `<folder>/<name>.torrent` of the file or folder `name` in the folder `origin`.
    pub(crate) fn make(
        folder: &Path,
        origin: &Path,
        name: &str,
        piece_length: u32,
        announce: Option<&str>,
    ) -> Self {
        let payload = origin.join(name);
        let mut paths = Vec::new();
        let mut info = BTreeMap::from([
            (b"name".to_vec(), Value::text(name)),
            (b"piece length".to_vec(), Value::Int(piece_length.into())),
        ]);
        if payload.is_dir() {
            list(&payload, &mut paths);
            paths.sort();
            let entries = paths.iter().map(|path| entry(&payload, path)).collect();
            info.insert(b"files".to_vec(), Value::List(entries));
        } else {
            info.insert(b"length".to_vec(), Value::Int(length(&payload).cast_signed()));
            paths.push(payload);
        }
        let files: Vec<_> = paths.into_iter().map(|path| (path.clone(), length(&path))).collect();
        info.insert(b"pieces".to_vec(), Value::Bytes(piece_hashes(&files, piece_length)));
        let info = Value::Dict(info);
        let mut whole = BTreeMap::from([(b"info".to_vec(), info.clone())]);
        if let Some(url) = announce {
            whole.insert(b"announce".to_vec(), Value::text(url));
        }
        let file = folder.join(format!("{name}.torrent"));
        fs::write(&file, Value::Dict(whole).encode()).expect("a torrent can be written");
        let info_hash =
            digest(&SHA1_FOR_LEGACY_USE_ONLY, &info.encode()).as_ref().try_into().expect("20 bytes");
        let length = files.iter().map(|(_, length)| length).sum();
        Self { file, info_hash, piece_length, length, files }
    }

    /// The same torrent, known by nothing but a magnet link with these further parameters.
    pub(crate) fn by_magnet(&self, parameters: &str) -> Self {
        let link = format!("magnet:?xt=urn:btih:{}{parameters}", self.info_hash_hex());
        Self { file: link.into(), ..self.clone() }
    }

    pub(crate) fn info_hash_hex(&self) -> String {
        hex(&self.info_hash)
    }

    pub(crate) fn pieces(&self) -> u32 {
        u32::try_from(self.length.div_ceil(self.piece_length.into())).expect("few pieces")
    }

    /// Length of one piece in bytes.
    pub(crate) fn piece_size(&self, piece: u32) -> u64 {
        let start = u64::from(piece) * u64::from(self.piece_length);
        (self.length - start).min(self.piece_length.into())
    }

    /// Payload bytes of the origin.
    pub(crate) fn read(&self, piece: u32, begin: u32, len: u32) -> Vec<u8> {
        let mut out = vec![0; len as usize];
        let start = u64::from(piece) * u64::from(self.piece_length) + u64::from(begin);
        let (mut at, mut filled) = (0, 0);
        for (path, size) in &self.files {
            let from = start + filled as u64;
            if filled < out.len() && from < at + size {
                let take = usize::try_from(at + size - from).unwrap_or(usize::MAX).min(out.len() - filled);
                let file = File::open(path).expect("the origin opens");
                file.read_exact_at(&mut out[filled..filled + take], from - at)
                    .expect("the origin can be read");
                filled += take;
            }
            at += size;
        }
        assert_eq!(filled, out.len(), "a block inside the torrent");
        out
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|why| panic!("{} is there: {why}", path.display())).len()
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the origin opens") {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() { list(&path, found) } else { found.push(path) }
    }
}

fn entry(payload: &Path, path: &Path) -> Value {
    let below = path.strip_prefix(payload).expect("listed below");
    let parts = below.iter().map(|part| Value::text(part.to_str().expect("UTF-8"))).collect();
    Value::dict([("length", Value::Int(length(path).cast_signed())), ("path", Value::List(parts))])
}

/// SHA-1 of every piece of the files laid one behind the other. That of a piece of nothing but zeros, which huge payloads are
/// made of, is taken once.
fn piece_hashes(files: &[(PathBuf, u64)], piece_length: u32) -> Vec<u8> {
    let (mut hashes, mut piece, mut filled) = (Vec::new(), vec![0; piece_length as usize], 0);
    let sum = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let mut of_zeros = None;
    for (path, size) in files {
        let file = File::open(path).expect("the origin opens");
        let mut at = 0;
        while at < *size {
            let left = usize::try_from(*size - at).unwrap_or(usize::MAX);
            let take = left.min(piece.len() - filled);
            file.read_exact_at(&mut piece[filled..filled + take], at).expect("the origin can be read");
            at += take as u64;
            filled += take;
            if filled == piece.len() {
                let zeros = piece.iter().all(|byte| *byte == 0);
                let hash = if zeros { *of_zeros.get_or_insert_with(|| sum(&piece)) } else { sum(&piece) };
                hashes.extend_from_slice(hash.as_ref());
                filled = 0;
            }
        }
    }
    if filled > 0 {
        hashes.extend_from_slice(sum(&piece[..filled]).as_ref());
    }
    hashes
}
