//! When a download stands still it looks for more peers, though some are connected: they may have nothing for it, and whoever has may
//! have come meanwhile.

use super::Progress;
use std::time::{Duration, Instant};

/// A download that has got nothing for so long wishes for more peers; then after twice as long, and so on.
const PATIENCE: Duration = Duration::from_secs(60);
const MOST_DOUBLINGS: u32 = 5;

/// See the module.
#[derive(Debug)]
pub(super) struct Lull {
    /// Bytes that were verified when it last went on.
    downloaded: u64,
    /// When it did, or last wished.
    since: Instant,
    wishes: u32,
}

impl Lull {
    pub(super) fn new(now: Instant) -> Self {
        Self { downloaded: 0, since: now, wishes: 0 }
    }

    /// A download stands so. Whether it needs other peers than it has: it has none, or nothing has come for long.
    pub(super) fn wants_peers(&mut self, now: Instant, progress: &Progress) -> bool {
        if progress.left == 0 {
            return false;
        }
        // What comes may be wrong, or come for ever.
        if progress.downloaded != self.downloaded {
            *self = Self { downloaded: progress.downloaded, ..Self::new(now) };
        }
        let is_long = now >= self.since + PATIENCE * (1 << self.wishes.min(MOST_DOUBLINGS));
        if is_long {
            (self.since, self.wishes) = (now, self.wishes + 1);
        }
        is_long || progress.peers == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_that_stands_still_wishes_for_peers_more_and_more_seldom() {
        let start = Instant::now();
        let mut lull = Lull::new(start);
        let stalled = Progress { left: 1, peers: 3, ..Progress::default() };
        let mut wishes = Vec::new();
        let mut live = |lull: &mut Lull, seconds: std::ops::Range<u64>, progress: Progress| {
            wishes.clear();
            wishes.extend(seconds.filter(|at| lull.wants_peers(start + Duration::from_secs(*at), &progress)));
            wishes.clone()
        };
        assert_eq!(live(&mut lull, 0..1000, stalled), [60, 180, 420, 900]);
        // Something has come.
        assert_eq!(live(&mut lull, 1000..1100, Progress { downloaded: 9, ..stalled }), [1060]);
        // Not all that comes is right.
        let trickle = Progress { download_rate: 1, downloaded: 9, ..stalled };
        assert_eq!(live(&mut lull, 1100..1200, trickle), [1180]);
        assert_eq!(live(&mut lull, 1200..1203, Progress { peers: 0, ..trickle }), [1200, 1201, 1202]);
        assert_eq!(live(&mut lull, 1203..20_000, Progress { left: 0, peers: 0, ..trickle }), [0; 0]);
    }
}
