//! Parts of files that are mapped, to be sent from the page cache: as many as there is room for. Which are given up is left to
//! chance: of peers that all go through a torrent in its order, the oldest would be what is wanted next.
//!
//! To map a part and to give it up costs more than to send a few blocks of it without ([`FileRange`]). So where those that are given up
//! have sent little (blocks from all over a torrent that is longer than the room), few new ones are mapped: those that are there
//! stay longer, and send more. And where little of a part is wanted, and nothing tells that more will be, none is given up for it:
//! each of the others is as likely to be wanted next.

use super::file_id::FileId;
use super::handle::Handle;
use crate::metainfo::FileIndex;
use crate::ring::{Cached, FileRange, VIEW_LEN, View, Window};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Views that the memory of a core has room for, at the least. Half of it may be taken by blocks that were read, and a
/// dozen views are often being sent at the same time; but to map one is dear, so that longer ones are better than more.
const LEAST_VIEWS: usize = 24;
/// Bytes of a view at the least.
const LEAST_VIEW_LEN: usize = 128 * 1024;
/// Mappings of the process at most: the kernel allows 65530, and the allocator needs some.
const MOST_VIEWS: usize = 16 * 1024;

/// What of its length a view has to send, on an average, before it is given up: as much as pays for it.
const LEAST_WORTH: f32 = 1.0 / 2.0;
/// Views that are given up count for an average.
const REMEMBERED: f32 = 16.0;
/// What of a part is to be wanted at once for another to be given up for it, by those who do not go on in order.
const LEAST_WANTED: usize = 16;
/// While views do not pay, one is mapped where so many could be: what is asked for may have changed.
const TRIES: u32 = 16;

/// What was in the page cache a moment ago is taken to be there still. Were it not, the send would wait for the disk, and the core
/// with it.
const MOMENT: Duration = Duration::from_millis(50);

type Place = (FileIndex, u64);

/// A view, with the file that it is of: the name may be another one's by now.
struct Mapped {
    id: FileId,
    view: Rc<View>,
    /// Whether the page cache had all of it, when the kernel was asked last.
    whole: bool,
    asked: Instant,
    /// Bytes that were asked for.
    sent: usize,
}

/// What is known of those who want a part of a file.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    /// Bytes that may be mapped in all.
    pub room: usize,
    /// They go on in order: what comes next they will want, too.
    pub ahead: bool,
    /// They have asked for it before, and not all of it was sent.
    pub again: bool,
}

impl Mapped {
    /// The same, as of a moment ago at most.
    fn is_whole(&mut self, file: &Handle, range: Range<u64>) -> bool {
        if self.asked.elapsed() > MOMENT {
            (self.whole, self.asked) = (file.is_resident(range), Instant::now());
        }
        self.whole
    }

    /// These bytes of the view, which begins at `start`.
    fn window(&mut self, start: u64, part: &Range<u64>, again: bool) -> Cached {
        let within = (part.start - start) as usize..(part.end - start) as usize;
        self.sent += if again { 0 } else { within.len() };
        Cached::Mapped(Window::new(Rc::clone(&self.view), within))
    }
}

pub(super) struct Views {
    views: HashMap<Place, Mapped>,
    places: Vec<Place>,
    chance: fastrand::Rng,
    bytes: usize,
    most: usize,
    /// Bytes of one view.
    len: usize,
    /// What of their length views have sent when they were given up, an average of the last ones; 1 if they sent more.
    worth: f32,
    /// Views that were not mapped since the last one was.
    passed: u32,
}

impl Views {
    /// None, with this core's share of the mappings.
    pub(super) fn new(cores: usize) -> Self {
        let most = MOST_VIEWS / cores.max(1);
        let (views, places, chance) = (HashMap::new(), Vec::new(), fastrand::Rng::new());
        Self { views, places, chance, bytes: 0, most, len: VIEW_LEN, worth: 1.0, passed: 0 }
    }

    /// Views as long as is good when the core has so many bytes of memory.
    pub(super) fn fit(&mut self, memory: usize) {
        debug_assert!(self.places.is_empty(), "nothing is mapped yet");
        let len = 1 << (memory / LEAST_VIEWS).max(1).ilog2();
        self.len = len.clamp(LEAST_VIEW_LEN, VIEW_LEN);
    }

    /// Bytes that are mapped, all of which may be resident.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// As many of `wanted` bytes of a file of `len` bytes, from the start, as can be sent in one; `None` when the page cache has not
    /// all of these. Mapped, if that pays and there is room for it.
    pub(super) fn get(
        &mut self,
        (index, file, len): (FileIndex, &Rc<Handle>, u64),
        wanted: &Range<u64>,
        interest: Interest,
    ) -> Option<Cached> {
        let number = wanted.start / self.len as u64;
        let (place, start) = ((index, number), number * self.len as u64);
        let view = start..len.min(start + self.len as u64);
        let part = wanted.start..wanted.end.min(view.end);
        match self.views.get_mut(&place) {
            Some(mapped) if mapped.id == file.id() => {
                let is_there = mapped.is_whole(file, view) || file.is_resident(part.clone());
                return is_there.then(|| mapped.window(start, &part, interest.again));
            }
            Some(_) => self.give_up(|mapped| *mapped == place),
            None => {}
        }
        if !file.is_resident(part.clone()) {
            return None;
        }
        let wanted_len = (part.end - part.start) as usize;
        if self.make_room(&view, wanted_len, interest)
            && let Ok(mapped) = self.map(place, file, view)
        {
            return Some(mapped.window(start, &part, interest.again));
        }
        Some(Cached::File(FileRange::new(Rc::clone(file) as Rc<dyn AsFd>, part)))
    }

    fn map(&mut self, place: Place, file: &Handle, range: Range<u64>) -> io::Result<&mut Mapped> {
        let (start, len) = (range.start, (range.end - range.start) as usize);
        let (whole, asked) = (file.is_resident(range), Instant::now());
        let view = if whole { View::populated } else { View::new }(file.file(), start, len)?;
        self.bytes += len;
        self.passed = 0;
        self.places.push(place);
        let mapped = Mapped { id: file.id(), view: Rc::new(view), whole, asked, sent: 0 };
        Ok(self.views.entry(place).insert_entry(mapped).into_mut())
    }

    /// Whether a view of this range, of which so many bytes are `wanted`, may be mapped now; sees to it that it can be.
    fn make_room(
        &mut self,
        range: &Range<u64>,
        wanted: usize,
        Interest { room, ahead, .. }: Interest,
    ) -> bool {
        let len = (range.end - range.start) as usize;
        let Some(left) = room.checked_sub(len) else { return false };
        let is_full = self.bytes > left || self.places.len() >= self.most;
        let pays = self.worth >= LEAST_WORTH && (ahead || wanted >= len / LEAST_WANTED);
        if is_full && !pays && self.passed < TRIES {
            self.passed += 1;
            return false;
        }
        self.shrink(left, self.most - 1);
        self.bytes <= left && self.places.len() < self.most
    }

    /// The files of which something is mapped.
    pub(super) fn files(&self) -> impl Iterator<Item = FileIndex> {
        self.views.keys().map(|(index, _)| *index)
    }

    /// Gives up what is mapped of a file.
    pub(super) fn give_up_file(&mut self, index: FileIndex) {
        self.give_up(|place| place.0 == index);
    }

    /// What is being sent of these goes with the send.
    fn give_up(&mut self, which: impl Fn(&Place) -> bool) {
        let leaving = self.views.extract_if(|place, _| which(place));
        self.bytes -= leaving.map(|(_, mapped)| mapped.view.len()).sum::<usize>();
        self.places.retain(|place| self.views.contains_key(place));
    }

    /// Whether no more than `room` bytes are being sent: the others can be given up.
    pub(super) fn sends_within(&self, room: usize) -> bool {
        let busy = |mapped: &&Mapped| Rc::strong_count(&mapped.view) > 1;
        let sent = || self.views.values().filter(busy).map(|mapped| mapped.view.len()).sum::<usize>();
        self.bytes <= room || sent() <= room
    }

    /// Keeps no more than `room` bytes, but for what is being sent.
    pub(super) fn keep_within(&mut self, room: usize) {
        self.shrink(room, self.most);
    }

    /// Gives up some until there are no more than so many bytes and views, or all that are left are being sent: to give those
    /// up would free nothing.
    fn shrink(&mut self, room: usize, most: usize) {
        while self.bytes > room || self.places.len() > most {
            let (first, count) = (self.chance.usize(..self.places.len()), self.places.len());
            let mut turned = (first..count).chain(0..first);
            let is_idle = |at: &usize| Rc::strong_count(&self.views[&self.places[*at]].view) == 1;
            let Some(at) = turned.find(is_idle) else { break };
            let leaving = self.places.swap_remove(at);
            let Mapped { view, sent, .. } = self.views.remove(&leaving).expect("each place has one");
            self.bytes -= view.len();
            let worth = sent.min(view.len()) as f32 / view.len() as f32;
            self.worth += (worth - self.worth) / REMEMBERED;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metainfo::{FileEntry, FileKind, Layout};
    use crate::ring::{Cached, VIEW_LEN};
    use crate::storage::{Access, Folder, Interest, Store};
    use std::fs;
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
            assert!(access.sends_within(room));
            access.map_within(room);
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
        assert!(access.sends_within(2 * VIEW_LEN) && !access.sends_within(2 * VIEW_LEN - 1));
        access.map_within(0);
        assert_eq!(access.mapped(), 2 * VIEW_LEN, "nothing would be freed");
        drop(held);
        assert!(is_mapped(2) && access.mapped() <= 2 * VIEW_LEN);
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
