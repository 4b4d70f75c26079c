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
/// go as fast as they can leave the core to the peers that are here. Those whom other cores have accepted, and who get their seat
/// here, count.
const INTERVAL: Duration = Duration::from_millis(1);
/// So many may come at once.
const BURST: u32 = 256;
/// Time for one piece that a peer has, which is counted when it comes and when it goes: each takes a third of that at most.
const SHIFT: Duration = Duration::from_nanos(100);
/// The same for those that the filter keeps out, who are closed without a word.
const REFUSAL_INTERVAL: Duration = Duration::from_micros(200);
const REFUSAL_BURST: u32 = 1280;

/// How fast connections come.
struct Pace {
    interval: Duration,
    burst: u32,
    /// When those that have come will have had the time that each of them is given.
    paid: Duration,
}

impl Pace {
    fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, paid: Duration::ZERO }
    }

    /// How long the next one has to wait.
    fn wait(&self, now: Duration) -> Duration {
        (self.paid + self.interval).saturating_sub(now + self.interval * self.burst)
    }

    /// What was done since `before` has taken so long; no longer than it is since then.
    fn charge(&mut self, (before, now): (Duration, Duration), time: Duration) {
        self.paid = self.paid.max(now) + time.min(now.saturating_sub(before));
    }

    /// One has come.
    fn count(&mut self, now: Duration) {
        self.paid = self.paid.max(now) + self.interval;
    }
}

/// How fast those come that may, and those that may not: who is kept out takes no place of who is let in.
pub(super) struct Paces {
    welcome: Pace,
    refused: Pace,
    /// When those who come were last charged for the pieces of those before them.
    charged: Duration,
}

impl Default for Paces {
    fn default() -> Self {
        let (welcome, refused) = (Pace::new(INTERVAL, BURST), Pace::new(REFUSAL_INTERVAL, REFUSAL_BURST));
        Self { welcome, refused, charged: Duration::ZERO }
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
    while !torrent.is_stopping() {
        if let Err(error) = let_in(&torrent, &listener).await {
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

/// Takes the next connection as soon as there is one, and lets it in as soon as there is room for it. Only who is taken can be
/// known for one that the filter keeps out.
async fn let_in(torrent: &Rc<TorrentShard>, listener: &Listener) -> std::io::Result<()> {
    if listener.waiting().await? {
        torrent.strangers.borrow_mut().nobody_waits();
    }
    let mut waited = false;
    torrent.keep_pace(|paces| &paces.refused, &mut waited).await;
    torrent.make_place();
    let descriptors = Descriptors::of_process();
    let place = descriptors.sockets.take().await;
    while descriptors.are_short() {
        torrent.look_again().await;
    }
    let Some((socket, addr)) = listener.accept(place)? else { return Ok(()) };
    if !torrent.swarm.borrow_mut().may_connect(addr.ip()) {
        // It is closed, without a word.
        torrent.paces.borrow_mut().refused.count(torrent.now());
        return Ok(());
    }
    torrent.charge_shifts();
    torrent.keep_pace(|paces| &paces.welcome, &mut waited).await;
    while !torrent.strangers.borrow_mut().has_room(torrent.now()) {
        torrent.look_again().await;
    }
    torrent.paces.borrow_mut().welcome.count(torrent.now());
    let torrent = Rc::clone(torrent);
    ring::spawn(async move { accept(&torrent, socket, addr).await });
    Ok(())
}

impl TorrentShard {
    /// Waits for as long as the next one has to. It counts once, however often it has `waited`.
    async fn keep_pace(&self, pace: fn(&Paces) -> &Pace, waited: &mut bool) {
        let wait = pace(&self.paces.borrow()).wait(self.now());
        if !wait.is_zero() {
            self.hits.borrow_mut().arrivals += u64::from(!std::mem::replace(waited, true));
            tokio::time::sleep(wait).await;
        }
    }

    /// Who has many pieces costs more than others when he comes and goes: those who come next have to wait for that. Done when somebody
    /// comes, and once a second: what was paid for long ago is forgotten.
    pub(super) fn charge_shifts(&self) {
        let shifts = self.swarm.borrow_mut().take_shifts().try_into().unwrap_or(u32::MAX);
        let (now, mut paces) = (self.now(), self.paces.borrow_mut());
        let before = std::mem::replace(&mut paces.charged, now);
        paces.welcome.charge((before, now), SHIFT.saturating_mul(shifts));
    }

    /// Waits for as long as somebody has to whom another core has let in; those who come next have to wait for him, too.
    pub(super) fn take_turn(&self) -> impl Future<Output = ()> + use<> {
        self.charge_shifts();
        let (now, mut paces) = (self.now(), self.paces.borrow_mut());
        let wait = paces.welcome.wait(now);
        paces.welcome.count(now);
        self.hits.borrow_mut().arrivals += u64::from(!wait.is_zero());
        async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Waits until there may be room.
    async fn look_again(&self) {
        let _ = tokio::time::timeout(LOOK, self.settled.notified()).await;
    }

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
        let mut pace = Pace::new(INTERVAL, BURST);
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

    #[test]
    fn who_has_many_pieces_is_paid_for_by_those_who_come_after_him() {
        let mut pace = Pace::new(INTERVAL, BURST);
        let mut now = Duration::from_secs(7);
        // Twenty times a second, 100,000 pieces come and go: they take a third of the time at most.
        let begun = now;
        for _ in 0..100 {
            now += pace.wait(now);
            pace.count(now);
            pace.charge((now - Duration::from_secs(1), now), SHIFT * 2 * 100_000);
        }
        let spent = now - begun;
        assert!((1700..2100).contains(&spent.as_millis()), "{spent:?}");
        // What has happened while nobody came costs whoever comes next no more than a burst.
        let mut pace = Pace::new(INTERVAL, BURST);
        now += Duration::from_secs(3600);
        pace.charge((now - INTERVAL, now), SHIFT * u32::MAX);
        assert_eq!(pace.wait(now), Duration::ZERO);
    }
}
