//! The reader: one validating pass, then spans.

use std::ops::Range;

/// How many lists and dictionaries may lie inside one another.
pub const MAX_DEPTH: usize = 100;
/// How many integers, strings (keys too), lists and dictionaries one document may hold, unless the caller allows fewer.
pub const MAX_TOKENS: usize = 3_000_000;

/// Why bytes are not bencoding, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}, at byte {at}")]
pub struct Error {
    /// What is wrong.
    pub reason: Reason,
    /// Offset in the input, in bytes.
    pub at: usize,
}

/// What is wrong with bytes that are not bencoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The input ends inside a value, or a string claims more bytes than are left.
    #[error("the data ends too early")]
    Truncated,
    /// A byte that starts no value.
    #[error("byte {0:#04x} starts no value")]
    Unexpected(u8),
    /// An integer without digits, with other bytes than digits, with a leading zero or a negative zero.
    #[error("an integer is malformed")]
    Integer,
    /// An integer outside of 64 signed bits.
    #[error("an integer does not fit in 64 bits")]
    IntegerRange,
    /// A string length with other bytes than digits before its colon, or with a leading zero.
    #[error("the length of a string is malformed")]
    Length,
    /// A dictionary key that is not a string.
    #[error("a dictionary key is not a string")]
    Key,
    /// A dictionary that ends behind a key.
    #[error("a dictionary key has no value")]
    MissingValue,
    /// The same key twice in one dictionary.
    #[error("a dictionary holds the same key twice")]
    DuplicateKey,
    /// More than [`MAX_DEPTH`] levels.
    #[error("lists and dictionaries are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// More tokens than this: [`MAX_TOKENS`], or what the caller allows.
    #[error("there are more than {0} values")]
    TooManyTokens(usize),
    /// Bytes behind the value, where none are allowed.
    #[error("bytes follow behind the end")]
    Trailing,
}

/// Whether bytes may follow behind a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailing {
    /// They may: torrent files in the wild end in a newline.
    Allow,
    /// They may not: messages of the wire.
    Refuse,
}

/// A value, the whole of which has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// The value.
    pub root: Value<'a>,
    /// What follows behind it.
    pub rest: &'a [u8],
    /// Whether the keys of every dictionary ascend, as BEP 3 asks. Real torrents break this rule.
    pub sorted: bool,
}

/// Reads the value at the start of `input`.
///
/// # Errors
/// When the input does not start with one complete, well-formed value within the limits.
pub fn parse(input: &[u8]) -> Result<Document<'_>, Error> {
    match parse_with_duplicates(input)? {
        (document, None) => Ok(document),
        (_, Some(duplicate)) => Err(duplicate),
    }
}

/// Like [`parse`], but a duplicate key comes beside the document: for a caller that refuses it too, after it has
/// looked for a flaw that says more to people.
///
/// # Errors
/// Those of [`parse`], less [`Reason::DuplicateKey`].
pub fn parse_with_duplicates(input: &[u8]) -> Result<(Document<'_>, Option<Error>), Error> {
    scan(input, MAX_TOKENS)
}

fn scan(input: &[u8], most_tokens: usize) -> Result<(Document<'_>, Option<Error>), Error> {
    let mut scanner = Scanner {
        input,
        at: 0,
        open: Vec::new(),
        keys: Vec::new(),
        tokens: 0,
        most_tokens,
        sorted: true,
        duplicate: None,
    };
    scanner.run()?;
    let (raw, rest) = input.split_at(scanner.at);
    Ok((Document { root: Value { raw }, rest, sorted: scanner.sorted }, scanner.duplicate))
}

/// Checks the value at the start of `input` and returns its length in bytes.
///
/// # Errors
/// Those of [`parse`], and [`Reason::Trailing`].
pub fn validate(input: &[u8], trailing: Trailing) -> Result<usize, Error> {
    validate_within(input, trailing, MAX_TOKENS)
}

/// Like [`validate`], of a value that may hold so many tokens and no more.
///
/// # Errors
/// Those of [`validate`].
pub fn validate_within(input: &[u8], trailing: Trailing, most_tokens: usize) -> Result<usize, Error> {
    let (document, duplicate) = scan(input, most_tokens)?;
    let at = input.len() - document.rest.len();
    match (duplicate, trailing) {
        (Some(duplicate), _) => Err(duplicate),
        (None, Trailing::Refuse) if at < input.len() => Err(Error { reason: Reason::Trailing, at }),
        (None, _) => Ok(at),
    }
}

/// One integer, string, list or dictionary of a checked document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    raw: &'a [u8],
}

impl<'a> Value<'a> {
    /// The bytes of the value as they stand in the input, delimiters included.
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// The number, if the value is one.
    pub fn int(self) -> Option<i64> {
        (self.raw[0] == b'i').then(|| integer(self.raw, 0).expect(CHECKED).0)
    }

    /// The bytes of the string, if the value is one.
    pub fn bytes(self) -> Option<&'a [u8]> {
        self.raw[0].is_ascii_digit().then(|| &self.raw[string(self.raw, 0).expect(CHECKED)])
    }

    /// The string, if the value is one and holds UTF-8.
    pub fn text(self) -> Option<&'a str> {
        self.bytes().and_then(|bytes| str::from_utf8(bytes).ok())
    }

    /// The elements, if the value is a list.
    pub fn list(self) -> Option<List<'a>> {
        (self.raw[0] == b'l').then(|| List { rest: self.inside() })
    }

    /// The entries, if the value is a dictionary.
    pub fn dict(self) -> Option<Dict<'a>> {
        (self.raw[0] == b'd').then(|| Dict { inside: self.inside() })
    }

    fn inside(self) -> &'a [u8] {
        &self.raw[1..self.raw.len() - 1]
    }
}

/// The elements of a list, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        (!self.rest.is_empty()).then(|| {
            let (raw, rest) = self.rest.split_at(span(self.rest));
            self.rest = rest;
            Value { raw }
        })
    }
}

/// A dictionary. Lookups walk its entries: look up once what is needed often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dict<'a> {
    inside: &'a [u8],
}

impl<'a> Dict<'a> {
    /// The value under a key.
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.entries().find_map(|(k, value)| (k == key).then_some(value))
    }

    /// The keys and values, in the order of the input.
    pub fn entries(self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        let mut tokens = List { rest: self.inside };
        std::iter::from_fn(move || {
            let key = tokens.next()?.bytes().expect(CHECKED);
            Some((key, tokens.next().expect(CHECKED)))
        })
    }
}

const CHECKED: &str = "checked by the scanner";

/// A list or dictionary whose end has not come yet.
enum Open {
    List,
    /// `keys` is where its keys begin in the scanner's stack of keys.
    Dict {
        keys: usize,
        ascending: bool,
    },
}

struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
    open: Vec<Open>,
    /// Where the keys of all open dictionaries lie: one stack, so that the check for duplicates takes
    /// n log n steps however the dictionaries are nested.
    keys: Vec<Range<usize>>,
    tokens: usize,
    most_tokens: usize,
    sorted: bool,
    /// The first duplicate key.
    duplicate: Option<Error>,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.open.last() {
                Some(_) if self.peek()? == b'e' => self.close()?,
                Some(Open::Dict { .. }) => {
                    self.key()?;
                    self.value()?;
                }
                _ => self.value()?,
            }
            if self.open.is_empty() {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Result<u8, Error> {
        self.input.get(self.at).copied().ok_or(self.error(Reason::Truncated))
    }

    fn error(&self, reason: Reason) -> Error {
        Error { reason, at: self.at }
    }

    fn count_token(&mut self) -> Result<(), Error> {
        self.tokens += 1;
        let most = self.most_tokens;
        if self.tokens > most { Err(self.error(Reason::TooManyTokens(most))) } else { Ok(()) }
    }

    /// Passes a number or a string, or the first byte of a list or dictionary.
    fn value(&mut self) -> Result<(), Error> {
        self.count_token()?;
        match self.peek()? {
            b'i' => self.at = integer(self.input, self.at)?.1,
            b'0'..=b'9' => self.at = string(self.input, self.at)?.end,
            b'l' => self.enter(Open::List)?,
            b'd' => self.enter(Open::Dict { keys: self.keys.len(), ascending: true })?,
            b'e' if !self.open.is_empty() => return Err(self.error(Reason::MissingValue)),
            other => return Err(self.error(Reason::Unexpected(other))),
        }
        Ok(())
    }

    fn enter(&mut self, container: Open) -> Result<(), Error> {
        if self.open.len() == MAX_DEPTH {
            return Err(self.error(Reason::TooDeep));
        }
        self.open.push(container);
        self.at += 1;
        Ok(())
    }

    fn key(&mut self) -> Result<(), Error> {
        self.count_token()?;
        if !self.peek()?.is_ascii_digit() {
            return Err(self.error(Reason::Key));
        }
        let key = string(self.input, self.at)?;
        let Some(Open::Dict { keys, ascending }) = self.open.last_mut() else {
            unreachable!("in a dictionary")
        };
        if let Some(last) = self.keys[*keys..].last() {
            *ascending &= self.input[last.clone()] < self.input[key.clone()];
        }
        self.at = key.end;
        self.keys.push(key);
        Ok(())
    }

    /// Passes the end of the innermost list or dictionary.
    fn close(&mut self) -> Result<(), Error> {
        self.at += 1;
        let Some(Open::Dict { keys, ascending }) = self.open.pop() else { return Ok(()) };
        if !ascending {
            self.sorted = false;
            let of = |range: &Range<usize>| &self.input[range.clone()];
            let mine = &mut self.keys[keys..];
            mine.sort_unstable_by_key(of);
            if let Some(twice) = mine.windows(2).find(|pair| of(&pair[0]) == of(&pair[1])) {
                let at = twice[0].start.max(twice[1].start);
                self.duplicate.get_or_insert(Error { reason: Reason::DuplicateKey, at });
            }
        }
        self.keys.truncate(keys);
        Ok(())
    }
}

/// The integer that starts at `at` with its `i`, and the offset behind it.
fn integer(input: &[u8], at: usize) -> Result<(i64, usize), Error> {
    let fail = |reason, at| Err(Error { reason, at });
    let negative = input.get(at + 1) == Some(&b'-');
    let first = at + 1 + usize::from(negative);
    let mut value = 0i64;
    for (end, byte) in input.iter().enumerate().skip(first) {
        match byte {
            b'0'..=b'9' if end > first && input[first] == b'0' => return fail(Reason::Integer, end),
            b'0'..=b'9' => {
                let digit = i64::from(byte - b'0');
                let shifted = value.checked_mul(10);
                let next =
                    shifted.and_then(|v| if negative { v.checked_sub(digit) } else { v.checked_add(digit) });
                value = next.ok_or(Error { reason: Reason::IntegerRange, at })?;
            }
            b'e' if end > first && !(negative && value == 0) => return Ok((value, end + 1)),
            _ => return fail(Reason::Integer, end),
        }
    }
    fail(Reason::Truncated, input.len())
}

/// Where the bytes of the string lie whose length starts at `at`.
fn string(input: &[u8], at: usize) -> Result<Range<usize>, Error> {
    let fail = |reason, at| Err(Error { reason, at });
    let mut length = 0usize;
    for (colon, byte) in input.iter().enumerate().skip(at) {
        match byte {
            b'0'..=b'9' if colon > at && input[at] == b'0' => return fail(Reason::Length, colon),
            b'0'..=b'9' => length = length.saturating_mul(10).saturating_add(usize::from(byte - b'0')),
            b':' if length < input.len() - colon => return Ok(colon + 1..colon + 1 + length),
            b':' => return fail(Reason::Truncated, at),
            _ => return fail(Reason::Length, colon),
        }
        // Long before a hostile run of digits ends, no input could hold that many bytes.
        if length > input.len() {
            return fail(Reason::Truncated, at);
        }
    }
    fail(Reason::Truncated, input.len())
}

/// Length of the value at the start of bytes that have been checked.
fn span(checked: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    loop {
        match checked[at] {
            b'l' | b'd' => (at, depth) = (at + 1, depth + 1),
            b'e' => (at, depth) = (at + 1, depth - 1),
            b'i' => at = integer(checked, at).expect(CHECKED).1,
            _ => at = string(checked, at).expect(CHECKED).end,
        }
        if depth == 0 {
            return at;
        }
    }
}
