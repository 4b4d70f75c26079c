//! The folder that one test lives in.

use std::path::{Path, PathBuf};

/// A folder on the file system that the build uses (a real one, not memory), gone when the test is over.
pub(crate) struct Stage {
    root: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("e2e-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self { root: root.expect("a folder for the test can be made") }
    }

    /// A path in the stage; nothing is made there.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(name)
    }

    /// A folder in the stage, made if need be.
    pub(crate) fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder in the stage can be made");
        path
    }
}
