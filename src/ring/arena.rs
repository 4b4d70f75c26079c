//! The memory of payload: one mapping a core, registered with its ring, cut into slabs of one run each.
//!
//! The mapping is as long as the arena may become. It grows by chunks when somebody takes a slab and none is free; what is
//! behind costs nothing.
//!
//! A slab is first *filled*: [`FillingSlab`] is its only owner and lends disjoint blocks of it to operations that
//! write ([`Lease`]). Then it is *sealed*: [`Slab`] handles share it, nobody writes it any more, and it goes back to
//! the arena with the last handle. So no byte that someone reads can change under him, whatever peers send.

use super::mapping::Mapping;
use super::registration::Table;
use super::support::warn_of_unregistered;
use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes in a slab: the longest run that one disk operation moves.
pub const SLAB_LEN: usize = 256 * 1024;
/// Lending goes by blocks of the wire.
const BLOCK_LEN: usize = 16 * 1024;
/// What memory and files are aligned to where they meet without the page cache (bytes).
const PAGE: usize = 4096;
/// A slab with room to begin anywhere in its first page: a run lies in memory as it lies in its file, so that whole pages go
/// between the two without a copy.
pub(super) const STRIDE: usize = SLAB_LEN + PAGE;
/// Blocks in a slab.
pub const BLOCKS_IN_SLAB: usize = SLAB_LEN / BLOCK_LEN;
/// Slabs by which the arena grows as a rule: just under 16 MiB, which take a few milliseconds to become resident.
pub const CHUNK_SLABS: u32 = 63;
/// A small arena grows by one part in so many, so that the first is not all of it: what it has not grown into may be used for
/// something else.
const PARTS: u32 = 4;
/// Chunks at most; io_uring's table of buffers has room for no more.
const MOST_CHUNKS: u32 = 1024;
const _: () = assert!(BLOCKS_IN_SLAB <= u16::BITS as usize, "one bit a block in `SlabState::leased`");

#[derive(Default)]
struct SlabState {
    /// Handles of any kind; 0 means free.
    refs: Cell<u32>,
    /// One bit a block that is lent out.
    leased: Cell<u16>,
    /// Where in its first page the slab begins.
    skew: Cell<usize>,
    /// It is among those that were let go.
    let_go: Cell<bool>,
}

/// What a slab that is given back is overwritten with in debug builds.
const SPOILT: u8 = 0xDD;

struct Shared {
    mapping: Arc<Mapping>,
    /// Slabs by which it grows.
    chunk: u32,
    /// Slabs that are or were in use; those behind have never been touched.
    grown: Cell<u32>,
    /// How many of these the kernel has pinned: the first.
    registered: Cell<u32>,
    /// Where more can be registered.
    table: RefCell<Option<Table>>,
    /// The core has ended: no slab is taken any more.
    ended: Cell<bool>,
    free: RefCell<Vec<u32>>,
    /// Slabs of which all handles but one have gone, each once.
    let_go: RefCell<Vec<u32>>,
    states: Box<[SlabState]>,
}

impl Shared {
    fn bytes(slabs: Range<u32>) -> Range<usize> {
        slabs.start as usize * STRIDE..slabs.end as usize * STRIDE
    }

    fn chunk_from(&self, begin: u32) -> Range<u32> {
        begin..begin.saturating_add(self.chunk).min(self.states.len() as u32)
    }

    /// The place of a slab's memory in the ring's table of buffers.
    fn registered_at(&self, index: u32) -> Option<u16> {
        (index < self.registered.get()).then(|| (index / self.chunk) as u16)
    }

    fn add(&self, slabs: Range<u32>) {
        self.grown.set(slabs.end);
        // The most recently used slab is taken first: it is the likeliest to be in the processor's cache.
        self.free.borrow_mut().extend(slabs.rev());
    }

    /// In debug builds, overwrites a slab that is given back: who still uses it shows bad bytes. To the tools that watch
    /// memory the arena is one piece, all of it in use.
    fn spoil(&self, index: u32) {
        // What disks have begun when the core ends they end, and no slab is used again.
        if cfg!(debug_assertions) && !self.ended.get() {
            // SAFETY: the slab lies wholly inside the mapping; with the last handle has gone whoever reads or writes it.
            unsafe { self.mapping.base.add(index as usize * STRIDE).write_bytes(SPOILT, STRIDE) };
        }
    }

    /// Adds a chunk; false when there is no more.
    fn grow(&self) -> bool {
        let slabs = self.chunk_from(self.grown.get());
        if slabs.is_empty() {
            return false;
        }
        let mut table = self.table.borrow_mut();
        if let Some(there) = table.as_ref() {
            let place = (slabs.start / self.chunk) as u16;
            match there.fill(place, &self.mapping, Self::bytes(slabs.clone())) {
                Ok(()) => self.registered.set(slabs.end),
                // Without it everything works, the kernel only pins pages anew for each operation.
                Err(cause) => {
                    warn_of_unregistered(self.mapping.len, &cause);
                    *table = None;
                }
            }
        }
        self.add(slabs);
        true
    }
}

/// All slabs of one core.
#[derive(Clone)]
pub struct Arena(Rc<Shared>);

impl Arena {
    /// Maps at least two slabs, at most `len` bytes. Nothing is there yet.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        Self::by_chunks(len, |count| CHUNK_SLABS.min(count.div_ceil(PARTS)))
    }

    /// As [`Self::new`], and once it grows it is all there.
    pub(super) fn in_one(len: usize) -> io::Result<Self> {
        Self::by_chunks(len, |count| count)
    }

    /// `chunk`: slabs by which it grows, of so many.
    fn by_chunks(len: usize, chunk: impl Fn(u32) -> u32) -> io::Result<Self> {
        let count = (len / STRIDE).max(2);
        let mapping = Arc::new(Mapping::new(count * STRIDE)?);
        let count = u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self(Rc::new(Shared {
            mapping,
            chunk: chunk(count).max(count.div_ceil(MOST_CHUNKS)),
            grown: Cell::new(0),
            registered: Cell::new(0),
            table: RefCell::new(None),
            ended: Cell::new(false),
            free: RefCell::default(),
            let_go: RefCell::default(),
            states: (0..count).map(|_| SlabState::default()).collect(),
        })))
    }

    /// Makes the first chunk, and registers it with the current runtime's ring; what comes later as well, if the ring's
    /// descriptor is known.
    ///
    /// # Errors
    /// What the kernel says to it. The arena works all the same.
    pub(super) fn register(&self, ring: Option<RawFd>) -> io::Result<()> {
        let Shared { mapping, chunk, states, .. } = &*self.0;
        debug_assert_eq!(self.0.grown.get(), 0, "nothing is there yet");
        let first = self.0.chunk_from(0);
        self.0.add(first.clone());
        let places = states.len().div_ceil(*chunk as usize);
        let table = Table::register(mapping, Shared::bytes(first.clone()), places, ring)?;
        self.0.registered.set(first.end);
        self.0.table.replace(Some(table));
        Ok(())
    }

    /// The ring ends: nothing more can be registered, and nobody takes slabs.
    pub(super) fn leave_ring(&self) {
        self.0.ended.set(true);
        self.0.table.replace(None);
    }

    /// Whether the kernel has pinned all pages that are in use once for all.
    pub fn is_registered(&self) -> bool {
        self.0.table.borrow().is_some()
    }

    /// Number of slabs that there may be.
    pub fn capacity(&self) -> usize {
        self.0.states.len()
    }

    /// Number of slabs nobody holds, those included that the arena has yet to grow to.
    pub fn free(&self) -> usize {
        self.ready() + self.untouched()
    }

    /// Number of slabs that can be taken without growing.
    pub fn ready(&self) -> usize {
        self.0.free.borrow().len()
    }

    /// Number of slabs that have never been in use: no memory is behind them.
    pub fn untouched(&self) -> usize {
        self.0.states.len() - self.0.grown.get() as usize
    }

    /// Number of slabs by which it grows next.
    pub fn growth(&self) -> usize {
        self.0.chunk_from(self.0.grown.get()).len()
    }

    /// Number of a slab ([`Slab::index`]) that has only one handle left, or had some time since this was last asked: each once. For
    /// whoever keeps slabs that others hold now and then; nobody else may ask.
    pub fn let_go(&self) -> Option<u32> {
        let index = self.0.let_go.borrow_mut().pop()?;
        self.0.states[index as usize].let_go.set(false);
        Some(index)
    }

    /// A slab to fill, if one is free. Its bytes are whatever was there before.
    pub fn take(&self) -> Option<FillingSlab> {
        self.take_at(0)
    }

    /// A slab whose first byte lies `skew` bytes behind a page boundary. The arena grows if it must and may.
    ///
    /// # Panics
    /// When that is a page or more.
    pub fn take_at(&self, skew: usize) -> Option<FillingSlab> {
        assert!(skew < PAGE, "a slab begins in its first page");
        if self.ready() == 0 && !self.0.grow() {
            return None;
        }
        let index = self.0.free.borrow_mut().pop()?;
        self.0.states[index as usize].skew.set(skew);
        Some(FillingSlab(Handle::first(&self.0, index)))
    }
}

/// One share of a slab.
struct Handle {
    arena: Rc<Shared>,
    index: u32,
}

impl Handle {
    fn first(arena: &Rc<Shared>, index: u32) -> Self {
        let state = &arena.states[index as usize];
        assert_eq!((state.refs.get(), state.leased.get()), (0, 0), "a free slab is in use");
        state.refs.set(1);
        Self { arena: Rc::clone(arena), index }
    }

    fn state(&self) -> &SlabState {
        &self.arena.states[self.index as usize]
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset <= SLAB_LEN);
        self.place(self.state().skew.get() + offset)
    }

    fn page_offset(&self, at: usize) -> usize {
        (self.state().skew.get() + at) % PAGE
    }

    /// The address so far behind the page boundary in front of the slab.
    fn place(&self, place: usize) -> NonNull<u8> {
        debug_assert!(place <= STRIDE);
        // SAFETY: the slab lies wholly inside the mapping.
        unsafe { self.arena.mapping.base.add(self.index as usize * STRIDE + place) }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        let refs = &self.state().refs;
        refs.set(refs.get() + 1);
        Self { arena: Rc::clone(&self.arena), index: self.index }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let SlabState { refs, let_go, .. } = self.state();
        refs.set(refs.get() - 1);
        match refs.get() {
            0 => {
                self.arena.spoil(self.index);
                self.arena.free.borrow_mut().push(self.index);
            }
            1 if !let_go.replace(true) => self.arena.let_go.borrow_mut().push(self.index),
            _ => {}
        }
    }
}

/// The bits of `SlabState::leased` for a range of bytes.
fn block_bits(range: &Range<usize>) -> u16 {
    assert!(range.start < range.end && range.end <= SLAB_LEN, "{range:?} is not inside a slab");
    let (first, last) = (range.start / BLOCK_LEN, (range.end - 1) / BLOCK_LEN);
    (u16::MAX >> (BLOCKS_IN_SLAB - 1 - (last - first))) << first
}

/// A slab that is being filled. There is one such value a slab, so bytes that are not leased are its owner's.
pub struct FillingSlab(Handle);

impl FillingSlab {
    /// Offset in its page of a byte of the slab.
    pub fn page_offset(&self, at: usize) -> usize {
        self.0.page_offset(at)
    }

    /// Lends a range to one operation that writes it. `None` while one of its blocks is lent already.
    pub fn lease(&self, range: Range<usize>) -> Option<Lease> {
        let bits = block_bits(&range);
        let leased = &self.0.state().leased;
        if leased.get() & bits != 0 {
            return None;
        }
        leased.set(leased.get() | bits);
        let skew = self.0.state().skew.get();
        Some(Lease { slab: self.0.clone(), places: skew + range.start..skew + range.end, bits })
    }

    /// Lends the whole pages that hold a range, with the number of bytes in front of it: for a file that is read
    /// without the page cache. Bytes beside the slab are nobody's.
    pub fn lease_pages(&self, range: Range<usize>) -> Option<(Lease, usize)> {
        let skew = self.0.state().skew.get();
        let (start, end) = (skew + range.start, skew + range.end);
        let places = start - start % PAGE..end.next_multiple_of(PAGE);
        let inner = places.start.saturating_sub(skew)..(places.end - skew).min(SLAB_LEN);
        let mut lease = self.lease(inner)?;
        let head = start - places.start;
        lease.places = places;
        Some((lease, head))
    }

    /// Whether some block of the range is lent out.
    pub fn is_leased(&self, range: &Range<usize>) -> bool {
        self.0.state().leased.get() & block_bits(range) != 0
    }

    /// Writes bytes by hand: for payload that could not be received in place.
    ///
    /// # Panics
    /// When a block of that range is lent out.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        assert!(!self.is_leased(&(offset..offset + bytes.len())), "these bytes belong to an operation");
        // SAFETY: the range lies in the slab (checked by `is_leased`), no operation writes it (just checked), no
        // `Slab` exists while this value does, and `bytes` cannot lie in it, for `read` borrows the slab.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.at(offset).as_ptr(), bytes.len()) }
    }

    /// Reads what is there.
    ///
    /// # Panics
    /// When a block of that range is lent out.
    pub fn read(&self, range: Range<usize>) -> &[u8] {
        assert!(!self.is_leased(&range), "these bytes belong to an operation");
        // SAFETY: inside the slab and initialised (the mapping starts as zeros). A lease of these bytes can be made
        // while the borrow lives, but only an operation could then write through it, and those are submitted
        // by callers who hold no borrow across an await.
        unsafe { std::slice::from_raw_parts(self.0.at(range.start).as_ptr(), range.len()) }
    }

    /// Ends the filling. Gives the slab back as it was while a block is still lent out.
    pub fn seal(self) -> Result<Slab, Self> {
        if self.0.state().leased.get() == 0 { Ok(Slab(self.0)) } else { Err(self) }
    }
}

/// Bytes of a slab that are being filled by the holder, and by nobody else, until this value is dropped.
pub struct Lease {
    slab: Handle,
    /// Counted from the page boundary in front of the slab.
    places: Range<usize>,
    bits: u16,
}

impl Lease {
    /// Number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Gives up the first `count` bytes, which have been filled.
    pub(super) fn advance(&mut self, count: usize) {
        self.places.start += count;
        debug_assert!(self.places.start <= self.places.end);
    }

    pub(super) fn address(&self) -> *mut u8 {
        self.slab.place(self.places.start).as_ptr()
    }

    /// The place in the ring's table of buffers.
    pub(super) fn registered_at(&self) -> Option<u16> {
        self.slab.arena.registered_at(self.slab.index)
    }

    /// The bytes.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: inside the leased range and initialised; `&mut self` proves that no operation holds the lease.
        unsafe { std::slice::from_raw_parts_mut(self.address(), self.len()) }
    }

    /// Copies bytes in, from the first on.
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.len());
        // SAFETY: inside the leased range; `&mut self` proves that no operation holds the lease at the moment.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(), bytes.len()) }
    }

    /// Fills the range with zeros.
    pub fn zero(&mut self) {
        // SAFETY: as in `write`.
        unsafe { std::ptr::write_bytes(self.address(), 0, self.len()) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let leased = &self.slab.state().leased;
        leased.set(leased.get() & !self.bits);
    }
}

/// A slab that is full: shared, and never written again until the last handle is gone.
#[derive(Clone)]
pub struct Slab(Handle);

impl Slab {
    /// The bytes.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= SLAB_LEN);
        // SAFETY: inside the slab and initialised; a sealed slab has no leases and no filler, so nobody writes it.
        unsafe { std::slice::from_raw_parts(self.0.at(range.start).as_ptr(), range.len()) }
    }

    /// Number of the slab in its arena.
    pub fn index(&self) -> u32 {
        self.0.index
    }

    /// Whether this is the only handle: nothing reads the slab but its holder.
    pub fn is_sole(&self) -> bool {
        self.0.state().refs.get() == 1
    }

    /// Offset in its page of a byte of the slab.
    pub fn page_offset(&self, at: usize) -> usize {
        self.0.page_offset(at)
    }

    pub(super) fn address(&self, offset: usize) -> *const u8 {
        self.0.at(offset).as_ptr()
    }

    /// What keeps the bytes mapped, whatever becomes of this core.
    pub(super) fn mapping(&self) -> Arc<Mapping> {
        Arc::clone(&self.0.arena.mapping)
    }

    /// The place in the ring's table of buffers.
    pub(super) fn registered_at(&self) -> Option<u16> {
        self.0.arena.registered_at(self.0.index)
    }
}

#[cfg(test)]
mod tests;
