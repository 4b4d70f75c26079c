//! Where the demo keeps its files.

use super::super::{Error, human};
use std::fs;
use std::path::{Path, PathBuf};

/// File systems that are memory, as `statfs` names them.
const TMPFS_MAGIC: u32 = 0x0102_1994;
const RAMFS_MAGIC: u32 = 0x8584_58f6;

/// A folder with one folder a node in it. A temporary one goes away when dropped.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    temporary: bool,
}

impl Place {
    /// Takes the named folder, or makes a temporary one on a real disk, with room for so many bytes.
    pub(super) fn new(named: Option<&Path>, bytes: u64) -> Result<Self, Error> {
        let place = match named {
            Some(path) => {
                fs::create_dir_all(path).map_err(Error::file("create folder", path))?;
                Self { path: path.into(), temporary: false }
            }
            None => {
                let path = temporary_root().join(format!("seedring-demo-{:08x}", fastrand::u32(..)));
                fs::create_dir(&path).map_err(Error::file("create folder", &path))?;
                Self { path, temporary: true }
            }
        };
        place.expect_room(bytes)?;
        Ok(place)
    }

    fn expect_room(&self, bytes: u64) -> Result<(), Error> {
        let stat = rustix::fs::statvfs(&self.path)
            .map_err(|cause| Error::file("look at", &self.path)(cause.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= bytes {
            return Ok(());
        }
        Err(Error::Other(format!(
            "the demo needs {} in {}, which has {} left; choose a smaller --size, fewer --leechers, or another folder with -d",
            human::size(bytes),
            self.path.display(),
            human::size(free),
        )))
    }

    /// Makes the folder of a node, which must not be there yet: nothing is overwritten.
    pub(super) fn add(&self, node: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(node);
        fs::create_dir(&path).map_err(Error::file("create folder", &path))?;
        Ok(path)
    }

    /// The folder, when it stays.
    pub(super) fn kept(&self) -> Option<&Path> {
        (!self.temporary).then_some(&self.path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary
            && let Err(cause) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!("cannot remove {}: {cause}", self.path.display());
        }
    }
}

/// The system's folder for temporary files, or the current one when that is memory: the demo is about disks.
fn temporary_root() -> PathBuf {
    let root = std::env::temp_dir();
    let is_memory = rustix::fs::statfs(&root)
        .is_ok_and(|stat| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&(stat.f_type as u32)));
    if is_memory { PathBuf::from(".") } else { root }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_place_goes_away_and_a_named_one_stays() {
        let place = Place::new(None, 1).unwrap();
        let path = place.path.clone();
        fs::write(place.add("seeder").unwrap().join("x"), "x").unwrap();
        assert!(place.kept().is_none() && path.is_dir());
        drop(place);
        assert!(!path.exists());

        let root = tempfile::tempdir().unwrap();
        let named = root.path().join("a/b");
        let place = Place::new(Some(&named), 1).unwrap();
        place.add("seeder").unwrap();
        assert!(place.add("seeder").unwrap_err().to_string().contains("exists"));
        assert_eq!(place.kept(), Some(named.as_path()));
        drop(place);
        assert!(named.join("seeder").is_dir());
    }

    #[test]
    fn want_of_room_is_said_before_anything_is_written() {
        let root = tempfile::tempdir().unwrap();
        let error = Place::new(Some(root.path()), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("16.00 EiB") && error.contains("--size"), "{error}");
    }
}
