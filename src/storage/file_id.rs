//! Which file a descriptor is of, whatever lies under its name by now.

use rustix::fs::{AtFlags, StatxFlags, StatxTimestamp};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// File systems that give a file another number when they have forgotten it, or when it is first written: FUSE, FAT, exFAT, SMB
/// (three), 9p, VirtualBox, overlay.
const NUMBERED_ANEW: [u64; 9] = [
    0x6573_5546,
    0x4d44,
    0x2011_bab0,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x0102_1997,
    0x786f_4256,
    super::handle::OVERLAY,
];

/// What tells whether somebody has written into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// In bytes.
    pub(super) len: u64,
    /// Seconds and nanoseconds.
    pub(super) written: (i64, u32),
    /// When something about it has changed, by the file system's own clock: nobody can set that.
    pub(super) changed: (i64, u32),
}

fn time(stamp: StatxTimestamp) -> (i64, u32) {
    (stamp.tv_sec, stamp.tv_nsec)
}

impl Stamp {
    /// Of an open file.
    ///
    /// # Errors
    /// When the kernel cannot tell about it.
    pub(super) fn of(fd: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok(Self { len: stat.stx_size, written: time(stat.stx_mtime), changed: time(stat.stx_ctime) })
    }

    /// Whether it was written to since it looked as `before`, as far as length and time tell. A time of writing that is not after all
    /// changes before was set: there are programs that give files the date of what they hold.
    pub(super) fn is_written_since(&self, before: &Self) -> bool {
        self.len != before.len || self.written != before.written && self.written > before.changed
    }
}

/// One file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: (u32, u32),
    /// Its number; where that does not last, its length.
    number: u64,
    /// When it was made, for numbers of files that are gone are given again, where the file system tells that; where numbers do
    /// not last, when it was written last.
    time: (i64, u32),
    lasts: bool,
}

impl FileId {
    /// Of an open file on a file system of the type `system`.
    ///
    /// # Errors
    /// When the kernel cannot tell about it.
    pub(super) fn of(fd: &OwnedFd, system: u64) -> io::Result<Self> {
        let asked = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(fd.as_fd(), "", AtFlags::EMPTY_PATH, asked)?;
        let lasts = !NUMBERED_ANEW.contains(&system);
        let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            number: if lasts { stat.stx_ino } else { stat.stx_size },
            time: match (lasts, has_birth) {
                (true, true) => time(stat.stx_btime),
                (true, false) => (0, 0),
                (false, _) => time(stat.stx_mtime),
            },
            lasts,
        })
    }

    /// Of no file.
    #[cfg(test)]
    pub(super) fn with_number(number: u64) -> Self {
        Self { device: (0, 0), number, time: (0, 0), lasts: true }
    }

    /// Whether it stays the same when the file is written.
    pub(super) fn lasts(&self) -> bool {
        self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    const FAT: u64 = 0x4d44;

    fn id(path: &Path, system: u64) -> FileId {
        FileId::of(&fs::File::open(path).unwrap().into(), system).unwrap()
    }

    #[test]
    fn a_file_stays_the_one_it_is_until_another_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let [part, whole, other] = ["a.part", "a", "b"].map(|name| folder.path().join(name));
        fs::write(&part, "1").unwrap();
        let first = id(&part, 0);
        fs::write(&part, "12").unwrap();
        fs::rename(&part, &whole).unwrap();
        assert_eq!(id(&whole, 0), first, "written and renamed");
        fs::write(&other, "12").unwrap();
        fs::rename(&other, &whole).unwrap();
        assert_ne!(id(&whole, 0), first);
    }

    #[test]
    fn where_numbers_do_not_last_it_is_length_and_time_that_tell() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "1").unwrap();
        let first = id(&path, FAT);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let put = |name: &str, bytes: &str, time| {
            let there = folder.path().join(name);
            fs::write(&there, bytes).unwrap();
            fs::File::options().write(true).open(&there).unwrap().set_modified(time).unwrap();
            id(&there, FAT)
        };
        assert_eq!(put("b", "1", time), first, "by another number");
        assert_ne!(put("c", "12", time), first);
        assert_ne!(put("d", "1", time + Duration::from_secs(2)), first);
        assert!(!first.lasts() && id(&path, 0).lasts());
    }

    #[test]
    fn a_date_that_somebody_sets_is_no_word_written() {
        let stamp = |len, written, changed| Stamp { len, written: (written, 0), changed: (changed, 0) };
        let before = stamp(9, 100, 200);
        for (now, is_written) in [
            (stamp(9, 100, 300), false),
            (stamp(9, 50, 300), false),
            (stamp(9, 200, 300), false),
            (stamp(9, 201, 201), true),
            (stamp(8, 100, 300), true),
        ] {
            assert_eq!(now.is_written_since(&before), is_written, "{now:?}");
        }
    }
}
