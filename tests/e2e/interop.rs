//! seedring with each of the clients of other people, both ways, found through opentracker.

use crate::clients::Partner;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::opentracker::Opentracker;
use crate::clients::seedring::{Seedring, number};
use crate::support::payload::{self, assert_same};
use crate::support::{Stage, Torrent};
use std::path::Path;

/// A payload and its piece length.
#[derive(Clone, Copy)]
enum Load {
    /// One file, whose last piece is 1 byte.
    Single,
    /// 300 files in nested folders, most smaller than a piece, some of 1 byte, some empty.
    Album,
}

impl Load {
    fn lay(self, origin: &Path, folder: &Path, announce: &str) -> Torrent {
        match self {
            Self::Single => {
                payload::file(&origin.join("single.bin"), 144 * 65_536 + 1, 7);
                Torrent::make(folder, origin, "single.bin", 65_536, Some(announce))
            }
            Self::Album => {
                payload::files(origin, &album(), 8);
                Torrent::make(folder, origin, "album", 32_768, Some(announce))
            }
        }
    }
}

fn album() -> Vec<(String, u64)> {
    let mut random = fastrand::Rng::with_seed(300);
    let file = |n: u32| {
        let length = match n % 25 {
            3 => 0,
            7 => 1,
            11 => 32_768,
            _ => random.u64(2..60_000),
        };
        (format!("album/disc {}/{}/track {n:03} ü.bin", n % 3, n % 7), length)
    };
    (0..300).map(file).collect()
}

fn download_from(partner: Partner, load: Load) {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    let tracker = Opentracker::start(&stage);
    let torrent = load.lay(&origin, &stage.path(""), &tracker.url());
    tracker.admit(&torrent);
    let _seed = partner.seed(&stage, &torrent, &origin);
    tracker.wait_seeds(&torrent, 1);
    let mut seedring = Seedring::download(&stage, &torrent, &copy, &[]);
    seedring.wait_success();
    assert_same(&origin, &copy);
    let completed = seedring.wait_event("completed", |_| true);
    assert_eq!((number(&completed, "left"), number(&completed, "downloaded")), (0, torrent.length));
    // Some answer out of order: that must not have all be copied.
    assert!(number(&completed, "moved") < torrent.length / 2, "{completed}");
    // Said goodbye, and only the partner is left; it had told the tracker of the completion before.
    tracker.wait_peers(&torrent, 1);
    assert_eq!(tracker.completions(&torrent), 1);
}

fn seed_to(partner: Partner, load: Load) {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    let tracker = Opentracker::start(&stage);
    let torrent = load.lay(&origin, &stage.path(""), &tracker.url_for(partner));
    tracker.admit(&torrent);
    let mut seedring = Seedring::seed(&stage, &torrent, &origin, &[]);
    tracker.wait_seeds(&torrent, 1);
    partner.download(&stage, &torrent, &copy).wait_complete();
    if partner == Partner::Transmission {
        // It makes no files that are empty.
        payload::remove_empty(&origin);
    }
    assert_same(&origin, &copy);
    assert!(seedring.stop().success(), "a seed that is asked to end ends well");
    assert!(seedring.last("stopped", "uploaded") >= Some(torrent.length));
}

/// It shows the next piece to whoever says that he has the one before, which he had from it. (Else one in ten seconds, which
/// would be too slow for this test.)
#[test]
fn a_super_seed_of_libtorrents_gives_everything() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("single.bin"), 40 * 65_536, 7);
    let torrent = Torrent::make(&stage.path(""), &origin, "single.bin", 65_536, None);
    let seed = Libtorrent::start(&stage, &torrent, &origin, &["--super-seed"]);
    let peer = seed.addr().to_string();
    Seedring::download(&stage, &torrent, &copy, &["--peer", &peer]).wait_success();
    assert_same(&origin, &copy);
}

macro_rules! both_ways {
    ($($partner:ident: $client:expr;)*) => { $(
        mod $partner {
            use super::{Load, download_from, seed_to};
            use crate::clients::Partner;

            #[test]
            fn gives_a_single_file() {
                download_from($client, Load::Single);
            }

            #[test]
            fn gives_many_files() {
                download_from($client, Load::Album);
            }

            #[test]
            fn takes_a_single_file() {
                seed_to($client, Load::Single);
            }

            #[test]
            fn takes_many_files() {
                seed_to($client, Load::Album);
            }
        }
    )* };
}

both_ways! {
    transmission: Partner::Transmission;
    libtorrent: Partner::Libtorrent;
    aria2: Partner::Aria2;
}
