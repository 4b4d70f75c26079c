//! One core's way to the parts of files that are mapped, to be sent from the page cache ([`Mappings`] has them, for all cores of a
//! torrent): which it knows, so that it has to ask only for others.

use super::handle::Handle;
use super::mappings::{Known, Mappings, Place};
use crate::metainfo::FileIndex;
use crate::ring::{Cached, FileRange, VIEW_LEN, View, Window};
use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Views that the memory of a core has room for, at the least. Half of it may be taken by blocks that were read, and a
/// dozen views are often being sent at the same time; but to map one is dear, so that longer ones are better than more.
const LEAST_VIEWS: usize = 24;
/// Bytes of a view at the least.
const LEAST_VIEW_LEN: usize = 128 * 1024;

/// What was in the page cache a moment ago is taken to be there still. Were it not, the send would wait for the disk, and the core
/// with it.
const MOMENT: Duration = Duration::from_millis(50);

/// A core forgets views that have gone when it knows twice as many as there are, and so many more.
const FORGOTTEN: usize = 64;

/// What is known of those who want a part of a file.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    /// Bytes of this core's memory that may be mapped.
    pub room: usize,
    /// They go on in order: what comes next they will want, too.
    pub ahead: bool,
    /// They have asked for it before, and not all of it was sent.
    pub again: bool,
}

/// What all cores of a torrent have mapped.
pub(super) struct SharedViews {
    mappings: Mutex<Mappings<View>>,
    /// Bytes of one view.
    len: OnceLock<usize>,
}

impl SharedViews {
    /// Nothing, of a torrent of `total` bytes.
    pub(super) fn new(total: u64) -> Self {
        Self { mappings: Mutex::new(Mappings::new(total)), len: OnceLock::new() }
    }

    /// Nothing is mapped or unmapped, and nobody waited for, while this is held.
    fn lock(&self) -> MutexGuard<'_, Mappings<View>> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A view that this core knows.
struct Seen {
    known: Known<View>,
    /// Whether the page cache had all of it, when the kernel was asked last.
    whole: bool,
    asked: Instant,
}

impl Seen {
    /// The same, as of a moment ago at most.
    fn is_whole(&mut self, file: &Handle, range: Range<u64>) -> bool {
        if self.asked.elapsed() > MOMENT {
            (self.whole, self.asked) = (file.is_resident(range), Instant::now());
        }
        self.whole
    }

    /// These bytes of the view, which is still there.
    fn window(&self, view: Arc<View>, within: Range<usize>, again: bool) -> Cached {
        self.known.sent.fetch_add(if again { 0 } else { within.len() }, Ordering::Relaxed);
        Cached::Mapped(Window::new(view, within))
    }
}

/// See the module.
pub(super) struct Views {
    shared: Arc<SharedViews>,
    seen: HashMap<Place, Seen>,
    /// Bytes of its memory that this core leaves to views, of whatever core.
    share: usize,
}

impl Views {
    /// A core's way to these, to which it leaves nothing yet.
    pub(super) fn new(shared: Arc<SharedViews>) -> Self {
        Self { shared, seen: HashMap::new(), share: 0 }
    }

    /// The core has so many bytes of memory, like every other core, and leaves all of them to views. These are as long as is good
    /// then.
    pub(super) fn fit(&mut self, memory: usize) {
        let len = 1 << (memory / LEAST_VIEWS).max(1).ilog2();
        self.shared.len.get_or_init(|| len.clamp(LEAST_VIEW_LEN, VIEW_LEN));
        self.leave(memory);
    }

    /// Bytes that are mapped, all of which may be resident.
    pub(super) fn bytes(&self) -> usize {
        self.shared.lock().bytes()
    }

    /// Leaves so many bytes of this core's memory to views. Gives up what has no room any more, but for what is being sent; says
    /// whether the others have room.
    pub(super) fn leave(&mut self, room: usize) -> bool {
        let (gone, fits) = {
            let mut mappings = self.shared.lock();
            (mappings.share(self.share, room), mappings.fits())
        };
        self.share = room;
        drop(gone);
        fits
    }

    /// As many of `wanted` bytes of a file of `len` bytes, from the start, as can be sent in one; `None` when the page cache has not
    /// all of these. Mapped, if that pays and there is room for it.
    pub(super) fn get(
        &mut self,
        (index, file, len): (FileIndex, &Rc<Handle>, u64),
        wanted: &Range<u64>,
        interest: Interest,
    ) -> Option<Cached> {
        let view_len = *self.shared.len.get_or_init(|| VIEW_LEN) as u64;
        let number = wanted.start / view_len;
        let (place, start) = (Place { file: index, id: file.id(), number }, number * view_len);
        let view = start..len.min(start + view_len);
        let part = wanted.start..wanted.end.min(view.end);
        let within = (part.start - start) as usize..(part.end - start) as usize;
        if interest.room != self.share {
            self.leave(interest.room);
        }
        if let Some(seen) = self.seen.get_mut(&place)
            && let Some(mapped) = seen.known.mapped.upgrade()
        {
            let is_there = seen.is_whole(file, view) || file.is_resident(part);
            return is_there.then(|| seen.window(mapped, within, interest.again));
        }
        if !file.is_resident(part.clone()) {
            return None;
        }
        if let Some(seen) = self.find(place, file, view, (within.len(), interest.ahead))
            && let Some(mapped) = seen.known.mapped.upgrade()
        {
            return Some(seen.window(mapped, within, interest.again));
        }
        Some(Cached::File(FileRange::new(Rc::clone(file) as Rc<dyn AsFd>, part)))
    }

    /// The view of this `range`, which another core has mapped or this one maps now. `None` if it is not to be.
    fn find(
        &mut self,
        place: Place,
        file: &Handle,
        range: Range<u64>,
        (wanted, ahead): (usize, bool),
    ) -> Option<&Seen> {
        let (start, len) = (range.start, (range.end - range.start) as usize);
        let (found, gone) = {
            let mut mappings = self.shared.lock();
            match mappings.find(place) {
                Some(known) => (Ok(known), Vec::new()),
                None => {
                    let (reserved, gone) = mappings.reserve(len, wanted, ahead);
                    (Err(reserved), gone)
                }
            }
        };
        drop(gone);
        let (whole, asked) = (file.is_resident(range), Instant::now());
        let known = match found {
            Ok(known) => known,
            Err(true) => self.map(place, file, (start, len), whole)?,
            Err(false) => return None,
        };
        Some(self.seen.entry(place).insert_entry(Seen { known, whole, asked }).into_mut())
    }

    /// Maps a view for which there is room.
    fn map(
        &mut self,
        place: Place,
        file: &Handle,
        (start, len): (u64, usize),
        whole: bool,
    ) -> Option<Known<View>> {
        let view = if whole { View::populated } else { View::new }(file.file(), start, len);
        let mut mappings = self.shared.lock();
        let Ok(view) = view else {
            mappings.fail(len);
            return None;
        };
        let (known, gone) = mappings.add(place, len, view);
        let count = mappings.count();
        drop(mappings);
        drop(gone);
        if self.seen.len() > 2 * count + FORGOTTEN {
            self.seen.retain(|_, seen| seen.known.mapped.strong_count() > 0);
        }
        Some(known)
    }

    /// The files of which something is mapped.
    pub(super) fn files(&self) -> Vec<FileIndex> {
        self.shared.lock().files().collect()
    }

    /// Gives up what is mapped of a file.
    pub(super) fn give_up_file(&mut self, index: FileIndex) {
        let gone = self.shared.lock().forget_file(index);
        drop(gone);
    }
}

impl Drop for Views {
    /// The core leaves nothing any more.
    fn drop(&mut self) {
        self.leave(0);
    }
}

#[cfg(test)]
mod tests {
    use crate::metainfo::{FileEntry, FileKind, Layout};
    use crate::ring::{Cached, VIEW_LEN};
    use crate::storage::{Access, Folder, Interest, Store};
    use std::fs;
    use std::ops::Range;
    use std::path::Path;
    use std::sync::Arc;

    const PIECE: u64 = 1024 * 1024;

    /// Files with bytes, and the way to them.
    fn stored(root: &Path, files: &[(FileKind, u64)]) -> Access {
        let entry = |(number, (kind, length)): (usize, &(FileKind, u64))| FileEntry {
            path: vec![number.to_string()],
            length: *length,
            kind: *kind,
            executable: false,
        };
        let files: Vec<_> = files.iter().enumerate().map(entry).collect();
        for file in files.iter().filter(|file| file.kind == FileKind::Regular) {
            fs::write(root.join(&file.path[0]), vec![7; file.length as usize]).unwrap();
        }
        let layout = Layout::new(PIECE, files.iter().map(|file| file.length)).unwrap();
        let store = Store::new(Folder::open(root, true).unwrap(), Arc::new(layout), &files).unwrap();
        Access::new(Arc::new(store), 1)
    }

    /// The interest of somebody who asks here and there.
    fn within(room: usize) -> Interest {
        Interest { room, ahead: false, again: false }
    }

    /// How bytes of the first piece are sent: the lengths of what is mapped of them, and of what is not.
    fn cached(access: &Access, begin: u32, len: u32, room: usize) -> Option<(Vec<usize>, Vec<usize>)> {
        let piece = access.store().layout().piece(0).unwrap();
        let is_mapped = |part: &Cached| matches!(part, Cached::Mapped(_));
        let (mapped, others): (Vec<_>, Vec<_>) =
            access.cached(piece, begin, len, within(room))?.into_iter().partition(is_mapped);
        let lengths = |parts: Vec<Cached>| parts.iter().map(Cached::len).collect();
        Some((lengths(mapped), lengths(others)))
    }

    /// The answer when all is mapped.
    fn mapped<const N: usize>(lengths: [usize; N]) -> Option<(Vec<usize>, Vec<usize>)> {
        Some((lengths.to_vec(), vec![]))
    }

    /// And when nothing is.
    fn unmapped<const N: usize>(lengths: [usize; N]) -> Option<(Vec<usize>, Vec<usize>)> {
        Some((vec![], lengths.to_vec()))
    }

    const VIEW: u32 = VIEW_LEN as u32;
    const REGULAR: FileKind = FileKind::Regular;

    #[test]
    fn a_range_is_cut_where_views_and_files_end() {
        let folder = tempfile::tempdir().unwrap();
        let access = stored(folder.path(), &[(REGULAR, 5 << 20), (REGULAR, 1 << 20)]);
        let all = usize::MAX;
        assert_eq!(cached(&access, 5, 100, all), mapped([100]));
        assert_eq!(cached(&access, VIEW - 30, 100, all), mapped([30, 70]));
        assert_eq!(cached(&access, (5 << 20) - 10, 30, all), mapped([10, 20]));
        assert_eq!(access.mapped(), VIEW_LEN + VIEW_LEN + (1 << 20) + (1 << 20), "both ends are shorter");
    }

    #[test]
    fn no_more_is_mapped_than_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        let access = stored(folder.path(), &[(REGULAR, 7 << 20)]);
        assert_eq!(cached(&access, 0, 10, VIEW_LEN - 1), unmapped([10]), "not one");
        let (much, len) = (VIEW / 16, VIEW_LEN / 16);
        for view in [0, 1, 2, 1, 0] {
            assert_eq!(cached(&access, view * VIEW, much, 2 * VIEW_LEN), mapped([len]));
            assert!(access.mapped() <= 2 * VIEW_LEN);
        }
        let little =
            (0..3).filter(|view| cached(&access, view * VIEW, much - 1, 2 * VIEW_LEN) == mapped([len - 1]));
        assert_eq!(little.count(), 2, "none is given up for little");
        for (room, left) in [(3 * VIEW_LEN, 2 * VIEW_LEN), (2 * VIEW_LEN - 1, VIEW_LEN), (0, 0)] {
            assert!(access.map_within(room));
            assert_eq!(access.mapped(), left);
        }
    }

    #[test]
    fn views_are_short_where_memory_is() {
        let folder = tempfile::tempdir().unwrap();
        for (memory, len) in [(0, 128 << 10), (16 << 20, 512 << 10), (40 << 20, 1 << 20), (1 << 30, VIEW_LEN)]
        {
            let access = stored(folder.path(), &[(REGULAR, 7 << 20)]).for_memory(memory);
            assert_eq!(cached(&access, len as u32 - 30, 100, memory / 2 + (1 << 20)), mapped([30, 70]));
            assert_eq!(access.mapped(), 2 * len);
        }
    }

    #[test]
    fn what_is_being_sent_keeps_its_room() {
        let folder = tempfile::tempdir().unwrap();
        let access = stored(folder.path(), &[(REGULAR, 7 << 20)]);
        let piece = access.store().layout().piece(0).unwrap();
        let room = within(2 * VIEW_LEN);
        let ask = |view: u32| access.cached(piece, view * VIEW, VIEW / 16, room).unwrap().remove(0);
        let is_mapped = |view: u32| matches!(ask(view), Cached::Mapped(_));
        let held = [ask(0), ask(1)];
        assert!(!is_mapped(2) && is_mapped(1));
        assert!(
            access.map_within(2 * VIEW_LEN) && !access.map_within(2 * VIEW_LEN - 1) && !access.map_within(0)
        );
        assert_eq!(access.mapped(), 2 * VIEW_LEN, "nothing would be freed");
        drop(held);
        assert!(is_mapped(2) && access.mapped() <= 2 * VIEW_LEN);
    }

    #[test]
    fn what_one_core_has_mapped_the_others_send_from() {
        let folder = tempfile::tempdir().unwrap();
        let first = stored(folder.path(), &[(REGULAR, 7 << 20)]);
        let second = Access::new(Arc::clone(first.store()), 2);
        let mapped = |access: &Access, views: Range<u32>| {
            views
                .filter(|view| cached(access, view * VIEW, VIEW / 16, VIEW_LEN).unwrap().1.is_empty())
                .count()
        };
        assert_eq!((mapped(&first, 0..3), mapped(&first, 0..1)), (3, 1));
        assert_eq!(first.mapped(), VIEW_LEN, "room for one");
        assert_eq!((mapped(&second, 0..2), second.mapped()), (2, 2 * VIEW_LEN));
        assert_eq!((mapped(&first, 0..2), first.mapped()), (2, 2 * VIEW_LEN), "the same two");
        // A core that needs its memory, or ends, takes its share with it.
        assert!(second.map_within(0));
        assert_eq!(first.mapped(), VIEW_LEN);
        assert!(second.map_within(VIEW_LEN));
        assert_eq!((mapped(&first, 0..2), first.mapped()), (2, 2 * VIEW_LEN));
        drop(second);
        assert_eq!(first.mapped(), VIEW_LEN);
    }

    #[test]
    fn where_views_do_not_pay_few_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let access = stored(folder.path(), &[(REGULAR, 64 << 20)]);
        let layout = access.store().layout();
        let ask = |view: u64, len| {
            let piece = layout.piece((view * VIEW_LEN as u64 / PIECE) as u32).unwrap();
            matches!(access.cached(piece, 0, len, within(8 * VIEW_LEN)).unwrap()[..], [Cached::Mapped(_)])
        };
        // A block here and there.
        let mut random = fastrand::Rng::with_seed(1);
        let unmapped = (0..1000).filter(|_| !ask(random.u64(..32), 16 << 10));
        assert!(unmapped.count() > 500);
        // All of it in order: after a while as if nothing had been.
        let in_order = || (0..32).filter(|view| !ask(*view, PIECE as u32)).count();
        (0..80).for_each(|_| _ = in_order());
        assert_eq!(in_order(), 0);
        assert!(access.mapped() <= 8 * VIEW_LEN);
    }

    #[test]
    fn who_goes_on_in_order_has_parts_mapped_however_little_is_sent_at_a_time() {
        const STEP: u64 = 64 << 10;
        let folder = tempfile::tempdir().unwrap();
        let access = stored(folder.path(), &[(REGULAR, 32 << 20)]);
        let layout = access.store().layout();
        let unmapped = |ahead, again| {
            let steps = 0..(32 << 20) / STEP;
            let is_mapped = |step: &u64| {
                let (at, interest) = (step * STEP, Interest { ahead, again, ..within(8 * VIEW_LEN) });
                let piece = layout.piece((at / PIECE) as u32).unwrap();
                let cached = access.cached(piece, (at % PIECE) as u32, STEP as u32, interest).unwrap();
                matches!(cached[..], [Cached::Mapped(_)])
            };
            steps.filter(|step| !is_mapped(step)).count()
        };
        assert_eq!([(); 3].map(|()| unmapped(true, false)), [0; 3]);
        // What is looked up again has not been sent twice: views that are asked for over and over may not pay.
        assert!((0..9).map(|_| unmapped(true, true)).sum::<usize>() > 1000);
    }

    #[test]
    fn only_what_the_page_cache_holds_is_sent_from_there() {
        // Where the test lies: a file system with a disk behind it.
        let here = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(here.parent().unwrap()).unwrap();
        let files = [
            (REGULAR, 1 << 20),
            (FileKind::Pad, 1 << 20),
            (REGULAR, 60_000),
            (REGULAR, 10_000),
            (REGULAR, 1 << 20),
        ];
        let access = stored(folder.path(), &files);
        let all = usize::MAX;
        assert_eq!(cached(&access, (1 << 20) - 10, 10, all), mapped([10]));
        assert_eq!(cached(&access, (1 << 20) - 10, 11, all), None, "padding");
        assert_eq!(cached(&access, 2 << 20, 10, all), mapped([10]), "a small file");
        assert_eq!(cached(&access, (2 << 20) + 60_000, 10, all), None, "a smaller one");
        let cut = fs::File::options().write(true).open(folder.path().join("0")).unwrap();
        cut.set_len((1 << 20) - 5).unwrap();
        // Its length is known for a moment.
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(cached(&access, (1 << 20) - 10, 5, all), mapped([5]));
        assert_eq!(cached(&access, (1 << 20) - 10, 6, all), None, "behind the end");
        access.map_within(0);
        cut.sync_all().unwrap();
        rustix::fs::fadvise(&cut, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert_eq!(cached(&access, 0, 100, all), None, "not in the page cache");
        fs::read(folder.path().join("0")).unwrap();
        assert_eq!(cached(&access, 0, 100, all), mapped([100]));
    }
}
