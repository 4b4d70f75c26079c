//! Finding the files a torrent is to be made of.

use super::StorageError;
use std::fs;
use std::path::Path;

/// What lies at a path.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The last component of the path.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its files, sorted by path: components below the folder (none for a single file), and length in bytes.
    pub files: Vec<(Vec<String>, u64)>,
}

/// Lists a file, or all files below a folder, in an order that depends on their names only.
///
/// # Errors
/// When something cannot be read, has a name that is not UTF-8, or is neither file nor folder.
pub fn scan(path: &Path) -> Result<Found, StorageError> {
    let text = path.display().to_string();
    let real = path.canonicalize().map_err(|cause| StorageError::new("read", &text, cause))?;
    let name = real.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let name = name.ok_or_else(|| StorageError::because("use", &text, "it has no name in UTF-8"))?;
    let meta = fs::metadata(&real).map_err(|cause| StorageError::new("read", &text, cause))?;
    let mut files = Vec::new();
    if meta.is_dir() {
        walk(&real, &mut Vec::new(), &mut files)?;
        files.sort();
    } else if meta.is_file() {
        files.push((Vec::new(), meta.len()));
    } else {
        return Err(StorageError::because("use", &text, "it is neither a file nor a folder"));
    }
    Ok(Found { name, is_folder: meta.is_dir(), files })
}

fn walk(
    folder: &Path,
    above: &mut Vec<String>,
    files: &mut Vec<(Vec<String>, u64)>,
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
            files.push((above.clone(), entry.metadata().map_err(fail(&path))?.len()));
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
        let files: Vec<_> = found.files.iter().map(|(path, len)| (path.join("/"), *len)).collect();
        let expected =
            [("a", 3), ("b/c/y", 2), ("b/x", 0), ("z", 1)].map(|(path, len)| (path.to_owned(), len));
        assert_eq!((found.name.as_str(), found.is_folder, files), ("album", true, expected.to_vec()));
        assert_eq!(scan(&root.join("z")).unwrap().files, [(vec![], 1)]);
        std::os::unix::fs::symlink("z", root.join("link")).unwrap();
        assert!(scan(&root).unwrap_err().to_string().contains("links are not followed"));
    }
}
