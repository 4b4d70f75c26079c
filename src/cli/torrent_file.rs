//! Reading and writing the torrent file that a command names.

use super::Error;
use crate::metainfo::{MAX_TORRENT_LEN, Torrent};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Reads a torrent file.
pub(super) fn read(path: &Path) -> Result<Torrent, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            // One byte more than allowed is enough to know that it is too large, even if it never ends.
            file.take(MAX_TORRENT_LEN as u64 + 1).read_to_end(&mut bytes)
        })
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::IsADirectory => {
                Error::Other(format!("cannot read {}: it is a folder, not a torrent file", path.display()))
            }
            _ => Error::file("read", path)(cause),
        })?;
    Torrent::parse(&bytes).map_err(|cause| Error::Torrent { path: path.display().to_string(), cause })
}

/// A place where a torrent file can be written, checked before the long work of making it.
#[derive(Debug)]
pub(super) struct Target {
    /// As the person named it.
    name: PathBuf,
    /// What is to be replaced or made, links resolved.
    path: PathBuf,
}

impl Target {
    /// Takes a place where a file is, which will be replaced, or where nothing is. It must not be part of `payload`,
    /// the file or folder that the torrent is made of.
    pub(super) fn new(name: &Path, payload: &Path) -> Result<Self, Error> {
        let refuse = |why: &str| Err(Error::Other(format!("cannot write {}: {why}", name.display())));
        let exists = match fs::metadata(name) {
            Ok(meta) if meta.is_dir() => return refuse("it is a folder"),
            Ok(meta) if !meta.is_file() => return refuse("something that is not a file is in the way"),
            Ok(_) => true,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => false,
            Err(cause) => return Err(Error::file("write", name)(cause)),
        };
        let path = if exists {
            name.canonicalize().map_err(Error::file("write", name))?
        } else {
            let Some(file) = name.file_name() else { return refuse("it has no file name") };
            let folder = match name.parent() {
                Some(folder) if folder != Path::new("") => folder,
                _ => Path::new("."),
            };
            folder.canonicalize().map_err(Error::file("write into", folder))?.join(file)
        };
        let folder = path.parent().expect("a file lies in a folder");
        if !folder.is_dir() {
            return refuse("what should be its folder is none");
        }
        // Replaced, it would no longer be what was hashed.
        if exists && payload.canonicalize().is_ok_and(|payload| path.starts_with(payload)) {
            return refuse("it is part of what the torrent is made of; choose another name");
        }
        Ok(Self { name: name.into(), path })
    }

    /// Writes the file, whole or not at all.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let file = self.path.file_name().expect("checked when made").to_string_lossy();
        let short = &file[..file.floor_char_boundary(200)];
        let temporary = self.path.with_file_name(format!(".{short}.{:08x}.tmp", fastrand::u32(..)));
        let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, &self.path));
        written.map_err(|cause| {
            let _ = fs::remove_file(&temporary);
            Error::file("write", &self.name)(cause)
        })
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.torrent");
        assert!(message(read(&path)).contains("a.torrent: No such file"));
        assert!(message(read(folder.path())).contains("it is a folder, not a torrent file"));
        fs::write(&path, "no torrent").unwrap();
        assert!(message(read(&path)).contains("a.torrent: this is not a torrent file"));
        assert!(message(read(Path::new("/dev/zero"))).contains("more than"));
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (payload, path) = (folder.path().join("payload"), folder.path().join("a.torrent"));
        fs::write(&payload, "x").unwrap();
        for bytes in ["first", "second"] {
            Target::new(&path, &payload).unwrap().write(bytes.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_link_to_a_file_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (link, path) = (folder.path().join("link"), folder.path().join("a.torrent"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink("a.torrent", &link).unwrap();
        Target::new(&link, &folder.path().join("payload")).unwrap().write(b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn the_payload_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("file");
        fs::write(&inside, "precious").unwrap();
        for payload in [folder.path(), &inside] {
            assert!(message(Target::new(&inside, payload)).contains("part of what the torrent is made of"));
        }
        // A new file beside the others is no harm: they have been listed by then.
        Target::new(&folder.path().join("new.torrent"), folder.path()).unwrap().write(b"x").unwrap();
    }

    #[test]
    fn places_that_are_no_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &Path| message(Target::new(name, Path::new("/no/payload")));
        assert!(refused(folder.path()).contains("it is a folder"));
        assert!(refused(Path::new("/dev/null")).contains("not a file"));
        assert!(refused(&folder.path().join("none/x")).contains("cannot write into"));
    }
}
