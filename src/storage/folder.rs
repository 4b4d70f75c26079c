//! The download folder: every path below it is resolved by the kernel with a promise not to leave it.

use super::StorageError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, openat2};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Beneath the folder, through no link at all.
const CONFINED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// What a file system has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes that may still be written.
    pub(super) bytes: u64,
    /// Bytes by which files grow.
    pub(super) block: u64,
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    name: String,
    /// The folders, itself or below it, in which others were made that a power cut may still take away.
    made_in: Mutex<BTreeSet<Vec<String>>>,
}

/// A path below the folder as its components; names are checked where they come from (`metainfo`, `scan`).
type Components<'a> = &'a [String];

impl Folder {
    /// Opens the folder a person named; here links are followed. `create` makes it, and those above it.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn open(path: &Path, create: bool) -> Result<Self, StorageError> {
        let name = path.display().to_string();
        if create {
            make_all(path).map_err(|cause| StorageError::new("create folder", &name, cause))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty());
        let fd = fd.map_err(|cause| StorageError::new("open folder", &name, cause))?;
        Ok(Self { fd, name, made_in: Mutex::default() })
    }

    /// What it is known by on this machine, whatever its name: device and inode.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn id(&self) -> Result<(u64, u64), StorageError> {
        let stat = rustix::fs::fstat(&self.fd);
        let stat = stat.map_err(|cause| StorageError::new("look at folder", &self.name, cause))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// The folder as people read it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The path as people read it.
    pub(super) fn display(&self, path: Components<'_>) -> String {
        format!("{}/{}", self.name, path.join("/"))
    }

    fn fail<'a>(
        &'a self,
        action: &'static str,
        path: Components<'a>,
    ) -> impl Fn(Errno) -> StorageError + Copy + use<'a> {
        move |cause| StorageError::new(action, self.display(path), cause)
    }

    /// Opens the folder that holds `path`, making it (and those above it) when `create` is set.
    fn parent(&self, path: Components<'_>, create: bool) -> Result<OwnedFd, Errno> {
        self.enter(&path[..path.len() - 1], create)
    }

    fn enter(&self, path: Components<'_>, create: bool) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut fd = openat2(&self.fd, ".", flags, Mode::empty(), CONFINED)?;
        for (depth, name) in path.iter().enumerate() {
            fd = match openat2(&fd, name, flags, Mode::empty(), CONFINED) {
                Err(Errno::NOENT) if create => {
                    match rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) => self.has_new_in(&path[..depth]),
                        Err(Errno::EXIST) => {}
                        Err(cause) => return Err(cause),
                    }
                    openat2(&fd, name, flags, Mode::empty(), CONFINED)?
                }
                other => other?,
            };
        }
        Ok(fd)
    }

    /// Something was made in a folder that must not be gone after a power cut.
    fn has_new_in(&self, folder: Components<'_>) {
        self.made_in.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_vec());
    }

    /// The folders in which something was made, to be opened ([`Self::open_folder`]) and synced; each is given once.
    pub(super) fn take_unsynced(&self) -> BTreeSet<Vec<String>> {
        std::mem::take(&mut *self.made_in.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a folder below this one, or this one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open_folder(&self, path: Components<'_>) -> Result<OwnedFd, StorageError> {
        self.enter(path, false).map_err(self.fail("open", path))
    }

    /// What is there under a name; `None` when there is nothing.
    fn look(&self, path: Components<'_>) -> Result<Option<Stat>, StorageError> {
        let name = path[path.len() - 1].as_str();
        let stat = self
            .parent(path, false)
            .and_then(|parent| rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW));
        match stat {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(cause) => Err(self.fail("look at", path)(cause)),
        }
    }

    /// The size of a regular file; `None` when there is nothing.
    ///
    /// # Errors
    /// When something else is there, or the path cannot be followed without leaving the folder.
    pub(super) fn size(&self, path: Components<'_>) -> Result<Option<u64>, StorageError> {
        let Some(stat) = self.look(path)? else { return Ok(None) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some(u64::try_from(stat.st_size).unwrap_or(0))),
            FileType::Symlink => Err(self.fail("look at", path)(Errno::LOOP)),
            _ => Err(StorageError::because(
                "use",
                self.display(path),
                "something that is not a file is in the way",
            )),
        }
    }

    /// Bytes of disk that a file takes.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(super) fn allocated(&self, path: Components<'_>) -> Result<u64, StorageError> {
        let fail = self.fail("look at", path);
        let stat = rustix::fs::fstat(self.open_to_read(path)?).map_err(fail)?;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }

    /// What may still be written; `None` when the file system does not say.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(super) fn room(&self) -> Result<Option<Room>, StorageError> {
        let stat = rustix::fs::fstatvfs(&self.fd).map_err(self.fail("look at", &[]))?;
        let root = rustix::process::geteuid().is_root();
        let blocks = if root { stat.f_bfree } else { stat.f_bavail };
        // Some that are no disks have no size.
        let block = stat.f_frsize.max(1);
        Ok((stat.f_blocks > 0).then(|| Room { bytes: blocks.saturating_mul(block), block }))
    }

    /// Opens a regular file to read.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_to_read(&self, path: Components<'_>) -> Result<OwnedFd, StorageError> {
        self.open_file("open", path, OFlags::RDONLY, Mode::empty(), false)
    }

    /// Opens a regular file to read and write.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open_to_write(&self, path: Components<'_>) -> Result<OwnedFd, StorageError> {
        self.open_file("open for writing", path, OFlags::RDWR, Mode::empty(), false)
    }

    /// Opens a regular file to read and write; makes it, and the folders above it, when it is not there.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub(super) fn make(&self, path: Components<'_>, executable: bool) -> Result<OwnedFd, StorageError> {
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        self.open_file("open for writing", path, OFlags::RDWR | OFlags::CREATE, mode, true)
    }

    /// Makes an empty file, which nobody will write.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make_empty(&self, path: Components<'_>, executable: bool) -> Result<(), StorageError> {
        self.make(path, executable)?;
        self.has_new_in(&path[..path.len() - 1]);
        Ok(())
    }

    /// Makes a file in the folder of that path, or in this one, that has no name: when it is closed, nothing is left of it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make_nameless(&self, beside: Components<'_>) -> Result<OwnedFd, StorageError> {
        let there = self.parent(beside, false).and_then(|folder| make_nameless_in(&folder));
        let made = there.or_else(|_| make_nameless_in(&self.fd));
        made.map_err(|cause| StorageError::new("write to", &self.name, cause))
    }

    fn open_file(
        &self,
        action: &'static str,
        path: Components<'_>,
        flags: OFlags,
        mode: Mode,
        create: bool,
    ) -> Result<OwnedFd, StorageError> {
        let fail = self.fail(action, path);
        let parent = self.parent(path, create).map_err(fail)?;
        // Not blocking: a pipe put in the file's place must not hang us before we see that it is one.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat2(&parent, path[path.len() - 1].as_str(), flags, mode, CONFINED).map_err(fail)?;
        let stat = rustix::fs::fstat(&fd).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StorageError::because(action, self.display(path), "it is not a regular file"));
        }
        Ok(fd)
    }

    /// Renames a file within its folder, never over another one. Gives the folder, to be synced.
    ///
    /// # Errors
    /// When the new name is taken, or the kernel refuses.
    pub(super) fn rename(&self, from: Components<'_>, to: Components<'_>) -> Result<OwnedFd, StorageError> {
        let fail = self.fail("rename to", to);
        let parent = self.parent(from, false).map_err(fail)?;
        let (old, new) = (from[from.len() - 1].as_str(), to[to.len() - 1].as_str());
        match rustix::fs::renameat_with(&parent, old, &parent, new, RenameFlags::NOREPLACE) {
            // Some file systems do not know the flag.
            Err(Errno::INVAL | Errno::NOSYS) if self.size(to)?.is_none() => {
                rustix::fs::renameat(&parent, old, &parent, new).map_err(fail)?;
            }
            other => other.map_err(fail)?,
        }
        Ok(parent)
    }
}

fn make_nameless_in(folder: &OwnedFd) -> Result<OwnedFd, Errno> {
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
    match openat2(folder, ".", flags | OFlags::TMPFILE, mode, CONFINED) {
        // Not every file system knows of such files: then one whose name is taken away at once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
            let name = format!(".seedring.{:016x}", fastrand::u64(..));
            let made = openat2(folder, &*name, flags | OFlags::CREATE | OFlags::EXCL, mode, CONFINED)?;
            rustix::fs::unlinkat(folder, &*name, AtFlags::empty())?;
            Ok(made)
        }
        other => other,
    }
}

/// There are file systems that know nothing of syncing a folder: what is done in one is then as safe as it gets.
pub(super) fn synced(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(cause) if matches!(cause.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(()),
        other => other,
    }
}

/// Makes a folder and those above it, so that they are there after a power cut, too.
fn make_all(path: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    std::fs::create_dir_all(path)?;
    for made in missing {
        let holder = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        match std::fs::File::open(holder.unwrap_or(Path::new("."))) {
            Ok(holder) => synced(holder.sync_all())?,
            // Whoever may write into a folder need not be allowed to read it.
            Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}
