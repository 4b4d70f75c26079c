//! Taking connections from the kernel's queue: no more at a time than can be looked after.

use super::torrent::TorrentShard;
use super::{Report, accept};
use crate::ring::{self, Descriptors, Listener};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

/// How long it takes at most until it is looked again whether there is room.
const LOOK: Duration = Duration::from_millis(10);
/// Rest after the kernel has refused a connection.
const REST: Duration = Duration::from_millis(100);
/// Time for one connection: taking it, hearing it and closing it again costs less than a tenth of that. So those who come and
/// go as fast as they can leave the core to the peers that are here.
const INTERVAL: Duration = Duration::from_millis(1);
/// So many may come at once.
const BURST: u32 = 256;

/// How fast connections come.
#[derive(Default)]
struct Pace {
    /// When those that have come will have had the time that each of them is given.
    paid: Duration,
}

impl Pace {
    /// How long the next one has to wait.
    fn wait(&self, now: Duration) -> Duration {
        (self.paid + INTERVAL).saturating_sub(now + INTERVAL * BURST)
    }

    /// One has come.
    fn count(&mut self, now: Duration) {
        self.paid = self.paid.max(now) + INTERVAL;
    }
}

/// Accepts connections until the program ends. Between one and the next, tasks that can go on do: what a burst of peers has
/// to say is heard before more are let in, who wait in the kernel's queue meanwhile.
pub(super) async fn listen(torrent: Rc<TorrentShard>, listener: TcpListener) {
    let listener = match Listener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return torrent.report(Report::Failed(format!("cannot listen: {error}"))),
    };
    let mut told = false;
    let mut pace = Pace::default();
    while !torrent.is_stopping() {
        if let Err(error) = let_in(&torrent, &listener, &mut pace).await {
            if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
                Descriptors::of_process().count_refusal();
                torrent.hits.borrow_mut().descriptors += 1;
                torrent.strangers.borrow_mut().give_way();
            } else if !std::mem::replace(&mut told, true) {
                tracing::warn!("cannot accept a connection: {error}");
            }
            tokio::time::sleep(REST).await;
        }
        tokio::task::yield_now().await;
    }
}

/// Takes the next connection, as soon as there are one and room for it.
async fn let_in(torrent: &Rc<TorrentShard>, listener: &Listener, pace: &mut Pace) -> std::io::Result<()> {
    if listener.waiting().await? {
        torrent.strangers.borrow_mut().nobody_waits();
    }
    let wait = pace.wait(torrent.now());
    if !wait.is_zero() {
        torrent.hits.borrow_mut().arrivals += 1;
        tokio::time::sleep(wait).await;
    }
    torrent.make_place();
    let descriptors = Descriptors::of_process();
    let place = descriptors.sockets.take().await;
    while descriptors.are_short() || !torrent.strangers.borrow_mut().has_room(torrent.now()) {
        let _ = tokio::time::timeout(LOOK, torrent.settled.notified()).await;
    }
    pace.count(torrent.now());
    match listener.accept(place)? {
        // It is closed, without a word.
        Some((_, addr)) if !torrent.swarm.borrow_mut().may_connect(addr.ip()) => {}
        Some((socket, addr)) => {
            let torrent = Rc::clone(torrent);
            ring::spawn(async move { accept(&torrent, socket, addr).await });
        }
        None => {}
    }
    Ok(())
}

impl TorrentShard {
    /// When there is no place for one more connection, the most silent stranger has to give way.
    pub(super) fn make_place(&self) {
        let descriptors = Descriptors::of_process();
        if !descriptors.sockets.are_free() {
            descriptors.warn_once();
            self.hits.borrow_mut().descriptors += 1;
            self.strangers.borrow_mut().give_way();
        }
    }

    /// Gives way to whoever waits for a descriptor, on whatever core: first files that are open for later only, and
    /// strangers.
    pub(super) fn give_way(&self) {
        self.access.give_way();
        let descriptors = Descriptors::of_process();
        if descriptors.are_short() || descriptors.sockets.are_wanted() {
            self.strangers.borrow_mut().give_way();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_comes_at_once_and_a_flood_by_the_interval() {
        let mut pace = Pace::default();
        let mut now = Duration::from_secs(7);
        let mut come = |now: &mut Duration, count: u32| {
            let begun = *now;
            for _ in 0..count {
                *now += pace.wait(*now);
                pace.count(*now);
            }
            *now - begun
        };
        assert_eq!(come(&mut now, BURST), Duration::ZERO);
        assert_eq!(come(&mut now, 1000), INTERVAL * 1000);
        now += INTERVAL * 10;
        assert_eq!(come(&mut now, 12), INTERVAL * 2);
        now += INTERVAL * BURST * 9;
        assert_eq!(come(&mut now, BURST), Duration::ZERO);
    }
}
