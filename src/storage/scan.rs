//! Finding the files a torrent is to be made of.

use super::StorageError;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells a file from one that was written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Length in bytes.
    pub len: u64,
    /// Seconds and nanoseconds. (Not the inode: there are file systems that number a file anew when they have forgotten it.)
    modified: (i64, i64),
}

impl From<&fs::Metadata> for Stamp {
    fn from(meta: &fs::Metadata) -> Self {
        Self { len: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// What lies at a path.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The path, without links in it.
    pub root: PathBuf,
    /// The last component of the path.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its files, sorted by path: components below the folder (none for a single file), and what was found there.
    pub files: Vec<(Vec<String>, Stamp)>,
}

impl Found {
    /// Looks at the files again.
    ///
    /// # Errors
    /// When one is no longer what was found, and which.
    pub fn assert_unchanged(&self) -> Result<(), StorageError> {
        for (names, stamp) in &self.files {
            let path = names.iter().fold(self.root.clone(), |path, name| path.join(name));
            let text = path.display().to_string();
            let meta =
                fs::symlink_metadata(&path).map_err(|cause| StorageError::new("read", &text, cause))?;
            if *stamp != Stamp::from(&meta) {
                return Err(StorageError::because("use", &text, "it has changed while it was read"));
            }
        }
        Ok(())
    }
}

/// Lists a file, or all files below a folder, in an order that depends on their names only.
///
/// # Errors
/// When something cannot be read, has a name that is not UTF-8, or is neither file nor folder.
pub fn scan(path: &Path) -> Result<Found, StorageError> {
    let text = path.display().to_string();
    let real = path.canonicalize().map_err(|cause| StorageError::new("read", &text, cause))?;
    let name = real.file_name().and_then(|name| name.to_str());
    let no_name = || StorageError::because("use", &text, "it has no name in UTF-8");
    let name = name.ok_or_else(no_name)?.to_owned();
    let meta = fs::metadata(&real).map_err(|cause| StorageError::new("read", &text, cause))?;
    let mut files = Vec::new();
    if meta.is_dir() {
        walk(&real, &mut Vec::new(), &mut files)?;
        files.sort();
    } else if meta.is_file() {
        files.push((Vec::new(), Stamp::from(&meta)));
    } else {
        return Err(StorageError::because("use", &text, "it is neither a file nor a folder"));
    }
    Ok(Found { name, is_folder: meta.is_dir(), files, root: real })
}

fn walk(
    folder: &Path,
    above: &mut Vec<String>,
    files: &mut Vec<(Vec<String>, Stamp)>,
) -> Result<(), StorageError> {
    let fail = |path: &Path| {
        let text = path.display().to_string();
        move |cause| StorageError::new("read", text, cause)
    };
    for entry in fs::read_dir(folder).map_err(fail(folder))? {
        let entry = entry.map_err(fail(folder))?;
        let path = entry.path();
        let name = entry.file_name().into_string();
        let name = name
            .map_err(|_| StorageError::because("use", path.display().to_string(), "its name is not UTF-8"))?;
        let kind = entry.file_type().map_err(fail(&path))?;
        above.push(name);
        if kind.is_dir() {
            walk(&path, above, files)?;
        } else if kind.is_file() {
            files.push((above.clone(), Stamp::from(&entry.metadata().map_err(fail(&path))?)));
        } else {
            let what = "it is neither a file nor a folder; links are not followed";
            return Err(StorageError::because("use", path.display().to_string(), what));
        }
        above.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_sorted_and_links_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("album");
        fs::create_dir_all(root.join("b/c")).unwrap();
        for (name, bytes) in [("z", "1"), ("b/c/y", "22"), ("b/x", ""), ("a", "333")] {
            fs::write(root.join(name), bytes).unwrap();
        }
        let found = scan(&root).unwrap();
        let files: Vec<_> = found.files.iter().map(|(path, stamp)| (path.join("/"), stamp.len)).collect();
        let expected =
            [("a", 3), ("b/c/y", 2), ("b/x", 0), ("z", 1)].map(|(path, len)| (path.to_owned(), len));
        assert_eq!((found.name.as_str(), found.is_folder, files), ("album", true, expected.to_vec()));
        let file = scan(&root.join("z")).unwrap().files;
        assert_eq!(file.iter().map(|(path, stamp)| (path.len(), stamp.len)).collect::<Vec<_>>(), [(0, 1)]);
        std::os::unix::fs::symlink("z", root.join("link")).unwrap();
        assert!(scan(&root).unwrap_err().to_string().contains("links are not followed"));
    }

    #[test]
    fn a_file_that_changes_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("album");
        fs::create_dir_all(root.join("b")).unwrap();
        let file = root.join("b/c");
        let anew = |bytes: &str| {
            fs::write(root.join("a"), "1").unwrap();
            fs::write(&file, bytes).unwrap();
            scan(&root).unwrap()
        };
        anew("22").assert_unchanged().unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        let changes: [(&str, &dyn Fn()); 5] = [
            ("grows", &|| fs::write(&file, "333").unwrap()),
            ("shrinks", &|| fs::write(&file, "1").unwrap()),
            ("is rewritten", &|| fs::File::open(&file).unwrap().set_modified(later).unwrap()),
            ("is gone", &|| fs::remove_file(&file).unwrap()),
            ("is another", &|| fs::rename(root.join("a"), &file).unwrap()),
        ];
        for (how, change) in changes {
            let found = anew("22");
            change();
            let error = found.assert_unchanged().map_err(|error| error.to_string());
            // The first is gone where it has taken the place of another.
            let name = if how == "is another" { "album/a" } else { "album/b/c" };
            assert!(error.as_ref().is_err_and(|error| error.contains(name)), "it {how}: {error:?}");
        }
    }
}
