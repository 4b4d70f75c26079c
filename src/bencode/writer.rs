//! The writer: only canonical bencoding can come out of it.

/// Writes one dictionary: `fill` adds its entries.
///
/// ```
/// let bytes = seedring::bencode::write_dict(|reply| {
///     reply.int(b"interval", 1800);
///     reply.bytes(b"peers", b"");
/// });
/// assert_eq!(bytes, b"d8:intervali1800e5:peers0:e");
/// ```
///
/// # Panics
/// When keys, here or further inside, are not added in strictly ascending order of their bytes.
pub fn write_dict(fill: impl FnOnce(&mut DictWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    put_dict(&mut out, fill);
    out
}

/// Adds entries to a dictionary, in strictly ascending order of their keys.
pub struct DictWriter<'o> {
    out: &'o mut Vec<u8>,
    last: Option<Vec<u8>>,
}

impl DictWriter<'_> {
    /// Adds a number.
    pub fn int(&mut self, key: &[u8], value: i64) {
        self.key(key);
        put_int(self.out, value);
    }

    /// Adds a string.
    pub fn bytes(&mut self, key: &[u8], value: &[u8]) {
        self.key(key);
        put_bytes(self.out, value);
    }

    /// Adds a list.
    pub fn list(&mut self, key: &[u8], fill: impl FnOnce(&mut ListWriter<'_>)) {
        self.key(key);
        put_list(self.out, fill);
    }

    /// Adds a dictionary.
    pub fn dict(&mut self, key: &[u8], fill: impl FnOnce(&mut DictWriter<'_>)) {
        self.key(key);
        put_dict(self.out, fill);
    }

    fn key(&mut self, key: &[u8]) {
        let ascends = self.last.as_deref().is_none_or(|last| last < key);
        assert!(ascends, "key {:?} comes too late", key.escape_ascii().to_string());
        self.last = Some(key.to_vec());
        put_bytes(self.out, key);
    }
}

/// Adds elements to a list.
pub struct ListWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl ListWriter<'_> {
    /// Adds a number.
    pub fn int(&mut self, value: i64) {
        put_int(self.out, value);
    }

    /// Adds a string.
    pub fn bytes(&mut self, value: &[u8]) {
        put_bytes(self.out, value);
    }

    /// Adds a list.
    pub fn list(&mut self, fill: impl FnOnce(&mut ListWriter<'_>)) {
        put_list(self.out, fill);
    }

    /// Adds a dictionary.
    pub fn dict(&mut self, fill: impl FnOnce(&mut DictWriter<'_>)) {
        put_dict(self.out, fill);
    }
}

fn put_int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(format!("i{value}e").as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(format!("{}:", value.len()).as_bytes());
    out.extend_from_slice(value);
}

fn put_list(out: &mut Vec<u8>, fill: impl FnOnce(&mut ListWriter<'_>)) {
    out.push(b'l');
    fill(&mut ListWriter { out });
    out.push(b'e');
}

fn put_dict(out: &mut Vec<u8>, fill: impl FnOnce(&mut DictWriter<'_>)) {
    out.push(b'd');
    fill(&mut DictWriter { out, last: None });
    out.push(b'e');
}
