//! Tests of the room, by subject.

mod build;
mod layout;
mod names;
mod torrent;

/// A string as bencoding has it.
fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

/// An info dictionary whose values are raw bencoding; an empty one is left out.
#[derive(Clone)]
struct Info {
    files: Vec<u8>,
    length: Vec<u8>,
    name: Vec<u8>,
    piece_length: Vec<u8>,
    pieces: Vec<u8>,
    /// Keys and values in front of the others.
    extra: Vec<u8>,
}

impl Info {
    /// A single file of 425 bytes.
    fn single() -> Self {
        Self {
            files: vec![],
            length: b"i425e".into(),
            name: b"4:temp".into(),
            piece_length: b"i16384e".into(),
            pieces: string([b'h'; 20]),
            extra: vec![],
        }
    }

    /// Files that take no more than a piece together, each a raw dictionary.
    fn multi<T: AsRef<[u8]>>(files: impl IntoIterator<Item = T>) -> Self {
        let mut list = b"l".to_vec();
        files.into_iter().for_each(|file| list.extend_from_slice(file.as_ref()));
        list.push(b'e');
        Self { files: list, length: vec![], ..Self::single() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = [b"d", self.extra.as_slice()].concat();
        for (key, value) in [
            ("files", &self.files),
            ("length", &self.length),
            ("name", &self.name),
            ("piece length", &self.piece_length),
            ("pieces", &self.pieces),
        ] {
            if !value.is_empty() {
                out.extend(string(key));
                out.extend_from_slice(value);
            }
        }
        out.push(b'e');
        out
    }

    /// A torrent file of nothing but this.
    fn torrent(&self) -> Vec<u8> {
        [b"d4:info", self.encode().as_slice(), b"e"].concat()
    }

    fn parse(&self) -> Result<super::Torrent, super::TorrentError> {
        super::Torrent::parse(&self.torrent())
    }
}

/// An entry of `files` of five bytes.
fn file(path: &[&[u8]]) -> Vec<u8> {
    let names: Vec<u8> = path.iter().flat_map(string).collect();
    [b"d6:lengthi5e4:pathl", names.as_slice(), b"ee"].concat()
}
