//! Messages out of a stream of bytes that arrives cut anywhere.

use super::bitfield::bitfield_len;
use super::head::{self, Head, MAX_HEAD_LEN, WireError, id::BITFIELD as BITFIELD_ID};
use super::message::{Message, PieceHead};

/// The longest message a peer may send, in bytes: far above any honest one, it only bounds what is passed over.
pub const MAX_MESSAGE_LEN: u32 = 1024 * 1024;

/// The longest payload of a message of an extension that is handed over, in bytes: a dictionary, and a block of metadata
/// behind it.
pub const MAX_EXTENDED_LEN: u32 = 64 * 1024 + crate::metainfo::BLOCK_LEN;

/// What a reader lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in the torrent's bitfield: the only length a `bitfield` message may have. 0: not known, and none is read.
    pub bitfield_len: u32,
    /// Longest message in bytes, without its length prefix.
    pub max_message: u32,
}

impl Limits {
    /// The limits before anything is known of the torrent but its hash. A `bitfield` is passed over.
    pub fn without_metadata() -> Self {
        Self { bitfield_len: 0, max_message: MAX_MESSAGE_LEN }
    }

    /// The limits for a torrent with this many pieces.
    pub fn for_pieces(piece_count: u32) -> Self {
        Self { bitfield_len: bitfield_len(piece_count) as u32, max_message: MAX_MESSAGE_LEN }
    }
}

/// What the stream holds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole message, or of an unknown one its kind and length.
    Message(Message<'a>),
    /// A `piece` message begins. All its payload follows as [`Payload`](Self::Payload) before anything else.
    PieceHead(PieceHead),
    /// Payload of the current `piece` message: the bytes of the input just passed.
    Payload {
        /// How many bytes, never 0.
        len: usize,
    },
}

/// Reads the stream of one peer, after its handshake.
///
/// It holds at most an unfinished head (17 bytes) and, while a `bitfield` or a message of an extension arrives in parts,
/// what of it has come. Payload is passed over, never copied: after `Payload { len }` it is the `len` bytes in front of what is left of the input.
///
/// ```
/// use seedring::wire::{Item, Limits, PieceHead, Reader};
///
/// let mut reader = Reader::new(Limits::for_pieces(100));
/// let received = [&PieceHead { index: 7, begin: 0, len: 3 }.encode()[..], b"abc"].concat();
/// let mut input = &received[..];
/// while let Some(item) = reader.next(&mut input)? {
///     if let Item::Payload { len } = item {
///         let end = received.len() - input.len();
///         assert_eq!(&received[end - len..end], b"abc");
///     }
/// }
/// # Ok::<(), seedring::wire::WireError>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    state: State,
    /// Beginning of a head that was cut: the first `held` bytes.
    head: [u8; MAX_HEAD_LEN],
    held: usize,
    /// A bitfield or a message of an extension that was cut; empty in all other states.
    held_body: Vec<u8>,
}

/// Where in a message the stream stands.
#[derive(Clone, Copy, Debug)]
enum State {
    /// In a head, or in front of one.
    Head,
    /// In the payload of a `piece` message.
    Payload { left: u32 },
    /// In the payload of an unknown message.
    Skip { left: u32 },
    /// In a message that is collected.
    Body { body: Body, len: u32 },
    /// Behind a collected message that the caller may still look at: it is freed at the next call.
    Delivered,
    /// Behind an error: there is no way on.
    Failed(WireError),
}

/// What is handed over whole.
#[derive(Clone, Copy, Debug)]
enum Body {
    Bitfield,
    Extended { id: u8 },
}

impl Body {
    fn message(self, bytes: &[u8]) -> Message<'_> {
        match self {
            Self::Bitfield => Message::Bitfield(bytes),
            Self::Extended { id } => Message::Extended { id, payload: bytes },
        }
    }
}

impl Reader {
    /// A reader at the beginning of a stream.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head, head: [0; MAX_HEAD_LEN], held: 0, held_body: Vec::new() }
    }

    /// Takes bytes from the front of `input` until an item is complete. `None` means that all was taken and more is
    /// needed.
    ///
    /// An unknown message is reported when its head is read; the calls after that pass over its payload in silence.
    ///
    /// # Errors
    /// When a message has a length it must not have; from then on every call gives the same error.
    #[inline]
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Item<'a>>, WireError> {
        loop {
            match self.state {
                State::Head => match self.take_head(input)? {
                    None => return Ok(None),
                    Some(Head::Message(message)) => return Ok(Some(Item::Message(message))),
                    Some(Head::Piece(head)) => {
                        self.state = State::Payload { left: head.len };
                        return Ok(Some(Item::PieceHead(head)));
                    }
                    Some(Head::Unknown { id, len }) => {
                        self.state = State::Skip { left: len };
                        return Ok(Some(Item::Message(Message::Unknown { id, len })));
                    }
                    Some(Head::Bitfield { len }) if self.limits.bitfield_len == 0 => {
                        self.state = State::Skip { left: len };
                        return Ok(Some(Item::Message(Message::Unknown { id: BITFIELD_ID, len })));
                    }
                    Some(Head::Bitfield { len }) => self.enter(Body::Bitfield, len),
                    Some(Head::Extended { id, len }) => self.enter(Body::Extended { id }, len),
                },
                State::Payload { left } => {
                    let len = pass(input, left);
                    if len == 0 {
                        return Ok(None);
                    }
                    self.state = match left - len {
                        0 => State::Head,
                        left => State::Payload { left },
                    };
                    return Ok(Some(Item::Payload { len: len as usize }));
                }
                State::Skip { left } => {
                    let left = left - pass(input, left);
                    if left > 0 {
                        self.state = State::Skip { left };
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Body { body, len } => {
                    if self.held_body.is_empty()
                        && let Some(whole) = input.split_off(..len as usize)
                    {
                        self.state = State::Head;
                        return Ok(Some(Item::Message(body.message(whole))));
                    }
                    if !self.collect(input, len as usize) {
                        return Ok(None);
                    }
                    self.state = State::Delivered;
                    return Ok(Some(Item::Message(body.message(&self.held_body))));
                }
                State::Delivered => {
                    self.held_body = Vec::new();
                    self.state = State::Head;
                }
                State::Failed(error) => return Err(error),
            }
        }
    }

    /// Payload bytes of the current `piece` message still to come; 0 outside one.
    pub fn payload_left(&self) -> u32 {
        match self.state {
            State::Payload { left } => left,
            _ => 0,
        }
    }

    /// Bytes of the current message still to come, of whatever kind it is; 0 while not all of its head is there.
    pub fn message_left(&self) -> usize {
        match self.state {
            State::Payload { left } | State::Skip { left } => left as usize,
            State::Body { len, .. } => len as usize - self.held_body.len(),
            State::Head | State::Delivered | State::Failed(_) => 0,
        }
    }

    /// Bytes held of a head that is not complete. Who receives into prepared places and guesses that a `piece`
    /// message comes leaves room for that many bytes fewer in front of its payload.
    pub fn head_held(&self) -> usize {
        self.held
    }

    /// Whether the stream stands between two messages.
    pub fn at_boundary(&self) -> bool {
        self.held == 0 && matches!(self.state, State::Head | State::Delivered)
    }

    /// The next head: straight from the input when it lies there whole, else by way of the held bytes.
    #[inline]
    fn take_head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, WireError> {
        if self.held > 0 {
            return self.complete_head(input);
        }
        match head::head_len(input, &self.limits) {
            Ok(len) => match input.split_off(..len) {
                Some(head) => Ok(Some(head::parse(head))),
                None => self.complete_head(input),
            },
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The next head when it is cut: adds to the held bytes what the input has of it.
    #[cold]
    fn complete_head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, WireError> {
        loop {
            let len = match head::head_len(&self.head[..self.held], &self.limits) {
                Ok(len) => len,
                Err(error) => return Err(self.fail(error)),
            };
            if self.held == len {
                self.held = 0;
                return Ok(Some(head::parse(&self.head[..len])));
            }
            let (part, rest) = input.split_at((len - self.held).min(input.len()));
            if part.is_empty() {
                return Ok(None);
            }
            self.head[self.held..][..part.len()].copy_from_slice(part);
            self.held += part.len();
            *input = rest;
        }
    }

    fn enter(&mut self, body: Body, len: u32) {
        self.state = State::Body { body, len };
    }

    /// Adds to the held message what the input has of it; says whether it is complete. Memory follows what has come, not
    /// what was announced.
    fn collect(&mut self, input: &mut &[u8], len: usize) -> bool {
        let (part, rest) = input.split_at((len - self.held_body.len()).min(input.len()));
        let most = len.min(2 * (self.held_body.len() + part.len()));
        if self.held_body.capacity() < self.held_body.len() + part.len() {
            self.held_body.reserve_exact(most - self.held_body.len());
        }
        self.held_body.extend_from_slice(part);
        *input = rest;
        self.held_body.len() == len
    }

    fn fail(&mut self, error: WireError) -> WireError {
        self.state = State::Failed(error);
        error
    }
}

/// Passes over at most `most` bytes of the input; says how many.
fn pass(input: &mut &[u8], most: u32) -> u32 {
    let len = u32::try_from(input.len()).unwrap_or(u32::MAX).min(most);
    *input = &input[len as usize..];
    len
}

#[cfg(test)]
mod tests;
