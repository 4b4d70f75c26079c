//! Where bytes wait that are to go into a file under its own name: into that they may come only when their piece is known to be
//! right, and some runs are written before that is known.
//!
//! They lie in one file that has no name, so nothing is left of it whatever happens, and from there they are copied.

use super::handle::Handle;
use super::{Access, StorageError};
use crate::metainfo::{PieceIndex, Span};
use crate::ring::Slab;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// One core's.
#[derive(Default)]
pub(super) struct Aside {
    file: RefCell<Option<Rc<Handle>>>,
    /// The pieces that have room in it: the how manieth piece's length is theirs.
    rooms: RefCell<BTreeMap<PieceIndex, u64>>,
}

impl Aside {
    /// Gives the piece room, if it has none yet.
    fn room(&self, piece: PieceIndex) -> u64 {
        if let Some(room) = self.of(piece) {
            return room;
        }
        let mut rooms = self.rooms.borrow_mut();
        let is_free = |room: &u64| rooms.values().all(|taken| taken != room);
        let free = (0..).find(is_free).expect("one of so many is free");
        rooms.insert(piece, free);
        free
    }

    /// The piece's room, if it has one.
    fn of(&self, piece: PieceIndex) -> Option<u64> {
        self.rooms.borrow().get(&piece).copied()
    }

    /// The piece needs it no more.
    fn leave(&self, piece: PieceIndex) {
        let mut rooms = self.rooms.borrow_mut();
        rooms.remove(&piece);
        if rooms.is_empty() {
            self.file.take();
        }
    }
}

impl Access {
    /// The file, made where that of the span is.
    async fn nameless(&self, span: &Span) -> Result<Rc<Handle>, StorageError> {
        if let Some(file) = self.aside.file.borrow().clone() {
            return Ok(file);
        }
        let place = self.place().await;
        let folder = &self.store().folder;
        let beside = &self.store().file(span.file).path;
        let fd = self.insist(|| folder.make_nameless(beside)).await?;
        let file = Handle::new(fd, true, place);
        let file = Rc::new(file.map_err(|cause| StorageError::new("write to", folder.name(), cause))?);
        // Another run may have made one meanwhile, which is kept.
        Ok(Rc::clone(self.aside.file.borrow_mut().get_or_insert(file)))
    }

    /// Puts a span aside of what was asked to be written from `begin` of the piece on.
    pub(super) async fn put_aside(
        &self,
        piece: PieceIndex,
        begin: u32,
        span: &Span,
        slab: &Slab,
    ) -> Result<(), StorageError> {
        let room = self.aside.room(piece);
        let file = self.nameless(span).await?;
        let at = span.at as usize;
        let offset = self.offset_aside(room, begin + span.at);
        let written = file.write(slab, at..at + span.len as usize, offset, self.counter()).await;
        written.map_err(|cause| StorageError::new("write", self.store().display(span.file), cause))
    }

    /// Where a span lies aside of what is asked for from `begin` of the piece on, if it does.
    pub(super) async fn find_aside(
        &self,
        piece: PieceIndex,
        begin: u32,
        span: &Span,
    ) -> Result<Option<(Rc<Handle>, u64)>, StorageError> {
        match self.aside.of(piece).filter(|_| self.store().file(span.file).is_in_place()) {
            Some(room) => {
                let offset = self.offset_aside(room, begin + span.at);
                Ok(Some((self.nameless(span).await?, offset)))
            }
            None => Ok(None),
        }
    }

    /// The piece came out wrong: what of it lies aside is of no use.
    pub fn give_up(&self, piece: PieceIndex) {
        self.aside.leave(piece);
    }

    fn offset_aside(&self, room: u64, begin: u32) -> u64 {
        room * u64::from(self.store().layout().piece_length()) + u64::from(begin)
    }

    /// All of the piece is written, and right: what of it lies aside comes to its place.
    ///
    /// # Errors
    /// When a file cannot be opened, read or written.
    pub async fn adopt(&self, piece: PieceIndex) -> Result<(), StorageError> {
        if self.aside.of(piece).is_none() {
            return Ok(());
        }
        let layout = self.store().layout();
        for span in layout.spans(piece, 0, layout.piece_len(piece)) {
            let Some((aside, from)) = self.find_aside(piece, 0, &span).await? else { continue };
            let to = self.open_to_write(span.file).await?;
            let copied = aside.file().copy(from..from + u64::from(span.len), to.file(), span.offset).await;
            copied.map_err(|cause| StorageError::new("write", self.store().display(span.file), cause))?;
            self.counter().cached_write(span.len as usize);
        }
        self.aside.leave(piece);
        Ok(())
    }
}
