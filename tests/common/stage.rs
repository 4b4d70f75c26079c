//! A torrent, its payload, and programs that move it.

use super::program::{Program, client, seedring};
use seedring::metainfo::Torrent;
use seedring::session::{CreateOptions, create};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A program that runs beside the test and is not heard on stderr.
pub(crate) fn beside(command: &mut Command) -> Program {
    Program::start(command.stderr(Stdio::null()))
}

/// `seed` or `download`, listening at some port.
pub(crate) fn beside_client(stage: &Stage, name: &str, folder: &Path, more: &[&str]) -> Program {
    beside(&mut client(name, &stage.file, folder, more))
}

/// A folder with a torrent, and its payload twice: in `here` for the client, in `there` for the generator.
pub(crate) struct Stage {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) file: PathBuf,
    pub(crate) torrent: Torrent,
}

impl Stage {
    /// Files of these lengths, 64 KiB pieces.
    pub(crate) fn new(lengths: &[usize]) -> Self {
        Self::with_pieces(lengths, 65_536)
    }

    /// Files and pieces of these lengths.
    pub(crate) fn with_pieces(lengths: &[usize], piece_length: u32) -> Self {
        // On a file system with a disk behind it.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut rng = fastrand::Rng::with_seed(5);
        for (number, len) in lengths.iter().enumerate() {
            let mut bytes = vec![0; *len];
            rng.fill(&mut bytes);
            for side in ["here", "there"] {
                fs::create_dir_all(folder.path().join(side).join("set")).unwrap();
                fs::write(folder.path().join(side).join(format!("set/{number:04}")), &bytes).unwrap();
            }
        }
        let options = CreateOptions { piece_length: Some(piece_length), ..CreateOptions::default() };
        let (bytes, torrent) = create(&folder.path().join("here/set"), &options, 1, |_, _| {}).unwrap();
        let file = folder.path().join("set.torrent");
        fs::write(&file, bytes).unwrap();
        Self { folder, file, torrent }
    }

    pub(crate) fn here(&self) -> PathBuf {
        self.folder.path().join("here")
    }

    pub(crate) fn there(&self) -> PathBuf {
        self.folder.path().join("there")
    }

    /// Has the kernel forget the files' bytes, as if nobody had read them for long.
    pub(crate) fn leave_page_cache(&self) {
        self.leave_page_cache_by(1);
    }

    /// The same of one file in so many.
    pub(crate) fn leave_page_cache_by(&self, step: usize) {
        for file in self.torrent.files.iter().step_by(step) {
            let file = fs::File::open(self.here().join(file.path.join("/"))).unwrap();
            file.sync_all().unwrap();
            // A page that somebody holds at the moment (another processor's list, a send) stays, and with it all that the
            // kernel keeps in one with it.
            let same = seedring::ring::File::new(file.try_clone().unwrap().into());
            for _ in 0..50 {
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                if same.cached(0, file.metadata().unwrap().len() as usize).map_or(true, |pages| pages == 0) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }

    /// Bytes of the files that the kernel has in its cache. Afterwards it may have all of them.
    pub(crate) fn cached_bytes(&self) -> u64 {
        const PAGE: u64 = 4096;
        let is_cached = |file: &fs::File, at: u64| {
            let mut page = [0; PAGE as usize];
            let mut into = [std::io::IoSliceMut::new(&mut page)];
            // What would have to be waited for is not read.
            rustix::io::preadv2(file, &mut into, at, rustix::io::ReadWriteFlags::NOWAIT).is_ok()
        };
        let of = |file: &seedring::metainfo::FileEntry| {
            let open = fs::File::open(self.here().join(file.path.join("/"))).unwrap();
            // Whoever looks makes the kernel read what is looked at, but no more than that.
            rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::Random).unwrap();
            let pages = (0..file.length).step_by(PAGE as usize).filter(|at| is_cached(&open, *at));
            pages.count() as u64 * PAGE
        };
        self.torrent.files.iter().map(of).sum()
    }

    pub(crate) fn total(&self) -> u64 {
        self.torrent.layout.total()
    }

    pub(crate) fn load(&self, mode: &str, more: &[&str]) -> Command {
        let mut command = seedring();
        let timeout = if more.contains(&"--timeout") { &[][..] } else { &["--timeout", "120"] };
        command.args(["load", mode]).args(timeout).arg("-d").arg(self.there());
        command.args(more).arg(&self.file);
        command
    }

    /// Runs the generator; its exit code, its summary and what it said on stderr.
    pub(crate) fn run(&self, mode: &str, more: &[&str]) -> (Option<i32>, Value, String) {
        Self::told(&mut self.load(mode, more))
    }

    pub(crate) fn told(command: &mut Command) -> (Option<i32>, Value, String) {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        let summary = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        (status.code(), summary, stderr)
    }

    pub(crate) fn assert_same(&self, other: &Path) {
        for file in &self.torrent.files {
            let path = file.path.join("/");
            assert!(
                fs::read(self.here().join(&path)).unwrap() == fs::read(other.join(&path)).unwrap(),
                "{path}"
            );
        }
    }
}
