//! How far requests of all peers together run ahead of what our own link brings.
//!
//! Each peer's window follows what that peer sends; but a slow link that many peers send to is full of what they were asked
//! for, each of them little. Blocks then come late, the peers seem to have stopped, others are asked as well, and what
//! comes is what came already. So when the blocks of narrow windows take long, all are asked for fewer.

use super::window::BOUNDS;
use std::time::Duration;

/// When they take longer than this on average (those of wide windows count as nothing), fewer are asked for; when less than half of it, more.
const LONG: f64 = 4.0;

/// Where the narrowing begins.
const WIDE: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// Seconds from request to block, of the blocks of late.
    response: f64,
    /// Of these, those of peers with narrow windows: wide ones are as wide as they are because of what comes.
    wait: f64,
    /// Blocks since the last look, and both their seconds.
    fresh: (u32, f64, f64),
    /// Most requests to have open with one peer.
    most: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { response: 0.0, wait: 0.0, fresh: (0, 0.0, 0.0), most: *BOUNDS.end() }
    }
}

impl Pace {
    /// A block has come, so long after it was asked for, from a peer that has so many requests open.
    pub(super) fn block_came(&mut self, time: Duration, open: usize) {
        self.fresh.0 += 1;
        self.fresh.1 += time.as_secs_f64();
        self.fresh.2 += if open < WIDE { time.as_secs_f64() } else { 0.0 };
    }

    /// How long blocks took of late.
    pub(super) fn response(&self) -> Duration {
        Duration::from_secs_f64(self.response)
    }

    /// Time has passed; so many peers give. Gives the most requests to have open with one peer, and how long a block may take
    /// beyond what peers are to blame for. (One is no flood: what it is asked for takes its time on the way.)
    pub(super) fn tick(&mut self, givers: usize) -> (usize, Duration) {
        let (blocks, response, wait) = std::mem::take(&mut self.fresh);
        if blocks > 0 {
            let mean = |old: f64, seconds: f64| (old * 3.0 + seconds / f64::from(blocks)) / 4.0;
            (self.response, self.wait) = (mean(self.response, response), mean(self.wait, wait));
            if self.wait > LONG {
                // From where it matters: few windows are that wide when blocks take so long.
                let least = if givers > 1 { 1 } else { WIDE };
                self.most = (self.most.min(WIDE) * 7 / 8).max(least);
            } else if self.wait < LONG / 2.0 {
                self.most = (self.most + self.most / 4 + 1).min(*BOUNDS.end());
            }
        }
        (self.most, Duration::from_secs_f64(self.response * 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(pace: &mut Pace, seconds: f64, (open, givers): (usize, usize), times: usize) -> usize {
        (0..times).for_each(|_| {
            pace.block_came(Duration::from_secs_f64(seconds), open);
            pace.tick(givers);
        });
        pace.most
    }

    #[test]
    fn who_is_flooded_asks_for_less_and_for_more_again_when_that_is_over() {
        let mut pace = Pace::default();
        let many = (2, 50);
        assert_eq!(ticks(&mut pace, 0.5, many, 10), 2000, "no flood, no limit");
        assert_eq!(ticks(&mut pace, 20.0, many, 40), 1);
        assert!(pace.tick(50).1 > Duration::from_secs(30), "and peers are not blamed");
        assert_eq!(ticks(&mut pace, 0.5, many, 60), 2000);
    }

    #[test]
    fn a_long_way_is_no_flood() {
        assert_eq!(ticks(&mut Pace::default(), 6.0, (100, 1), 40), 2000);
        assert_eq!(ticks(&mut Pace::default(), 6.0, (2, 1), 40), 16, "one peer floods nobody");
        assert_eq!(ticks(&mut Pace::default(), 6.0, (2, 2), 40), 1);
    }
}
