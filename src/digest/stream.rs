//! What goes into one stream: slices of any length, met as whole blocks.

use super::state::{BLOCK, Block, State};
use std::mem;
use std::slice;
use std::vec;

/// Slices that follow each other in a stream. (One slice alone takes no memory of its own.)
#[derive(Default)]
pub(super) struct Slices<'a> {
    first: Option<&'a [u8]>,
    rest: vec::IntoIter<&'a [u8]>,
}

impl<'a> Slices<'a> {
    pub(super) fn one(slice: &'a [u8]) -> Self {
        Self { first: Some(slice), rest: vec::IntoIter::default() }
    }
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.first.take().or_else(|| self.rest.next())
    }
}

/// What one stream goes on with.
pub struct Job<'a, S = super::Sha1State> {
    state: &'a mut S,
    slices: Slices<'a>,
}

impl<'a, S> Job<'a, S> {
    /// Moves the state on by one slice, of any length.
    pub fn new(state: &'a mut S, slice: &'a [u8]) -> Self {
        Self { state, slices: Slices::one(slice) }
    }

    /// Moves the state on by slices that follow each other in the stream, of any number and lengths. None is copied, but
    /// for what is left of a block where a slice ends within one.
    pub fn of_slices(state: &'a mut S, slices: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let rest: Vec<_> = slices.into_iter().collect();
        Self { state, slices: Slices { first: None, rest: rest.into_iter() } }
    }

    pub(super) fn state(&mut self) -> &mut S {
        self.state
    }

    /// What there is to do; nothing the next time.
    pub(super) fn take(&mut self) -> (&mut S, Slices<'a>) {
        (self.state, mem::take(&mut self.slices))
    }
}

/// A stream that has whole blocks to be compressed.
pub(super) struct Stream<'a, const W: usize> {
    state: &'a mut State<W>,
    /// Slices not begun.
    slices: Slices<'a>,
    /// Whole blocks of the slice at hand, and the bytes after them.
    run: &'a [Block],
    tail: &'a [u8],
    /// The block that the last slice began is full, and goes before the run.
    carried: bool,
}

impl<'a, const W: usize> Stream<'a, W> {
    /// `None` if there is no whole block: then all bytes are taken in.
    pub(super) fn new(state: &'a mut State<W>, slices: Slices<'a>) -> Option<Self> {
        let mut stream = Self { state, slices, run: &[], tail: &[], carried: false };
        stream.find_blocks().then_some(stream)
    }

    pub(super) fn words(&self) -> [u32; W] {
        self.state.words
    }

    pub(super) fn set_words(&mut self, words: [u32; W]) {
        self.state.words = words;
    }

    /// The next blocks; at least one.
    pub(super) fn blocks(&self) -> &[Block] {
        if self.carried { slice::from_ref(&self.state.partial) } else { self.run }
    }

    /// Leaves `count` of these blocks behind. Whether there are more; if not, all bytes are taken in.
    pub(super) fn pass(&mut self, count: usize) -> bool {
        if self.carried {
            self.carried = false;
        } else {
            self.run = &self.run[count..];
        }
        self.find_blocks()
    }

    /// Compresses all blocks, one after the other.
    pub(super) fn compress(mut self, compress: impl Fn(&mut [u32; W], &[Block])) {
        let mut words = self.words();
        loop {
            let blocks = self.blocks();
            let count = blocks.len();
            compress(&mut words, blocks);
            if !self.pass(count) {
                break;
            }
        }
        self.set_words(words);
    }

    fn find_blocks(&mut self) -> bool {
        while !self.carried && self.run.is_empty() {
            self.state.partial[..self.tail.len()].copy_from_slice(self.tail);
            self.tail = &[];
            let Some(slice) = self.slices.next() else { return false };
            self.begin(slice);
        }
        true
    }

    fn begin(&mut self, slice: &'a [u8]) {
        let held = self.state.held();
        self.state.total = self.state.total.wrapping_add(slice.len() as u64);
        let mut rest = slice;
        if held > 0 {
            let (fill, after) = slice.split_at(slice.len().min(BLOCK - held));
            self.state.partial[held..held + fill.len()].copy_from_slice(fill);
            self.carried = held + fill.len() == BLOCK;
            rest = after;
        }
        (self.run, self.tail) = rest.as_chunks();
    }
}
