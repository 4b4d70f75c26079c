//! Which core a peer belongs to that has connected to us: the one on whose CPU its packets come in, as long as no other core
//! has much less to do; where there is none, the one that has least to do. What one CPU takes from the network and another
//! sends costs both a third more; a core that has nothing to do while another has all peers costs more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A core may have so many peers more than another before newcomers go there, or one in [`SHARE`] more; but not many more than one
/// that has few: two, as long as that has none, and one more for [`FEW`] that it has. (Each of those on a core with twice as many
/// gets half as much, when all take what they can.)
const SLACK: usize = 8;
const SHARE: usize = 8;
const FEW: usize = 4;

/// The places of peers on all cores of a torrent.
pub(super) struct Seats {
    cores: Box<[Row]>,
}

/// Those of one core.
struct Row {
    cpu: usize,
    taken: AtomicUsize,
}

/// One peer's. It is given back when dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    core: usize,
}

impl Seats {
    /// For cores that run on these CPUs.
    pub(super) fn new(cpus: impl IntoIterator<Item = usize>) -> Arc<Self> {
        let cores = cpus.into_iter().map(|cpu| Row { cpu, taken: AtomicUsize::new(0) }).collect();
        Arc::new(Self { cores })
    }

    /// One on this core.
    pub(super) fn take(self: &Arc<Self>, core: usize) -> Seat {
        self.cores[core].taken.fetch_add(1, Ordering::Relaxed);
        Seat { seats: Arc::clone(self), core }
    }

    /// The core for a peer that has connected to the core `here`, and whose packets come in on this CPU, if that is known.
    pub(super) fn choose(&self, here: usize, cpu: Option<usize>) -> usize {
        let load = |core: &usize| (self.taken(*core), *core != here, *core);
        let all = 0..self.cores.len();
        let near = all.clone().filter(|core| Some(self.cores[*core].cpu) == cpu).min_by_key(load);
        let idlest = all.min_by_key(load).unwrap_or(here);
        let least = self.taken(idlest);
        let most = least + SLACK.min(1 + least / FEW).max(least / SHARE);
        near.filter(|near| self.taken(*near) <= most).unwrap_or(idlest)
    }

    fn taken(&self, core: usize) -> usize {
        self.cores[core].taken.load(Ordering::Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.cores[self.core].taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(seats: &Arc<Seats>, here: usize, cpu: Option<usize>) -> Seat {
        seats.take(seats.choose(here, cpu))
    }

    fn counts(seats: &Seats) -> Vec<usize> {
        (0..seats.cores.len()).map(|core| seats.taken(core)).collect()
    }

    #[test]
    fn peers_sit_where_their_packets_come_in() {
        let seats = Seats::new([4, 6]);
        let all: Vec<Seat> =
            (0..40).map(|number| seat(&seats, number / 2 % 2, Some([6, 4][number % 2]))).collect();
        assert!(all.iter().enumerate().all(|(number, seat)| seat.core == [1, 0][number % 2]));
        assert_eq!(counts(&seats), [20, 20]);
        drop(all);
        assert_eq!(counts(&seats), [0, 0]);
    }

    #[test]
    fn when_many_come_in_on_one_cpu_others_have_nearly_as_many() {
        let seats = Seats::new([4, 6, 7]);
        let few: Vec<Seat> = (0..2).map(|_| seat(&seats, 1, Some(4))).collect();
        assert_eq!(counts(&seats), [2, 0, 0]);
        let more: Vec<Seat> = (2..6).map(|_| seat(&seats, 1, Some(4))).collect();
        assert_eq!(counts(&seats), [3, 2, 1], "none is idle");
        let all: Vec<Seat> = (6..600).map(|_| seat(&seats, 1, Some(4))).collect();
        assert_eq!(counts(&seats), [216, 192, 192]);
        drop((few, more, all));
    }

    #[test]
    fn who_comes_in_elsewhere_goes_to_whoever_has_least_to_do() {
        let seats = Seats::new([4, 6]);
        let _dialled: Vec<Seat> = (0..3).map(|_| seats.take(0)).collect();
        let cores = (0..7).map(|number| {
            let seat = seat(&seats, 1, [None, Some(5)][number % 2]);
            (seat.core, seat)
        });
        let (cores, _seats): (Vec<_>, Vec<_>) = cores.unzip();
        assert_eq!(cores, [1, 1, 1, 1, 0, 1, 0]);
    }

    #[test]
    fn cores_that_share_a_cpu_share_its_peers() {
        let seats = Seats::new([0, 1, 0, 1]);
        let _dialled = seats.take(2);
        let all: Vec<Seat> = (0..31).map(|_| seat(&seats, 1, Some(0))).collect();
        assert_eq!(counts(&seats), [9, 7, 9, 7]);
        drop(all);
    }
}
