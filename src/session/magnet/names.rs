//! The names of peers that a magnet link has (`x.pe`), which are looked up a few at a time: all of the session's look-ups
//! share a few threads, and a link with many names must not keep those of trackers and the DHT from them.

use crate::metainfo::HostPort;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// Names that are looked up at a time.
const AT_A_TIME: usize = 2;
/// Time for one look-up of a host name, and addresses of it that are taken.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
const ADDRESSES_A_NAME: usize = 4;

/// Looks names up.
pub(super) struct Names {
    turns: Arc<Semaphore>,
    out: mpsc::Sender<Vec<SocketAddr>>,
    patience: Duration,
}

impl Names {
    /// What is found is sent there.
    pub(super) fn new(out: mpsc::Sender<Vec<SocketAddr>>) -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_A_TIME)), out, patience: LOOKUP_TIME }
    }

    /// Looks a name up when it is its turn. What is an address already waits for no turn.
    pub(super) fn look_up(&self, peer: HostPort) -> impl Future<Output = ()> + Send + use<> {
        let (out, addr) = (self.out.clone(), peer.host.parse::<IpAddr>());
        let turn = self.take(async move {
            let found = lookup_host((peer.host.as_str(), peer.port)).await?;
            Ok(found.take(ADDRESSES_A_NAME).collect())
        });
        async move {
            match addr {
                Ok(ip) => drop(out.send(vec![SocketAddr::new(ip, peer.port)]).await),
                Err(_) => turn.await,
            }
        }
    }

    fn take<F>(&self, addresses: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let (turns, out, patience) = (Arc::clone(&self.turns), self.out.clone(), self.patience);
        let addresses = Box::pin(addresses);
        async move {
            let Ok(turn) = turns.acquire_owned().await else { return };
            // A thread that looks a name up cannot be called back: it is its turn until it returns, however long we wait.
            let found = tokio::spawn(async move {
                let _turn = turn;
                addresses.await
            });
            if let Ok(Ok(Ok(addrs))) = timeout(patience, found).await {
                let _ = out.send(addrs).await;
            }
        }
    }

    /// From here on none is begun.
    pub(super) fn close(&self) {
        self.turns.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    /// Looks that have begun, and those that are allowed to end.
    #[derive(Default)]
    struct Looks {
        begun: AtomicUsize,
        end: Notify,
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_two_at_a_time_and_none_when_it_is_over() {
        let (out, mut found) = mpsc::channel(16);
        let names = Names { patience: Duration::from_secs(2), ..Names::new(out) };
        let looks = Arc::new(Looks::default());
        let mut tasks = JoinSet::new();
        for number in 0..10 {
            let looks = Arc::clone(&looks);
            tasks.spawn(names.take(async move {
                looks.begun.fetch_add(1, Ordering::Relaxed);
                looks.end.notified().await;
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], number))])
            }));
        }
        let begun = || looks.begun.load(Ordering::Relaxed);
        settle().await;
        assert_eq!(begun(), 2);
        looks.end.notify_one();
        let first = timeout(names.patience, found.recv()).await.expect("one was found");
        assert_eq!(first.map(|addrs| addrs.len()), Some(1));
        settle().await;
        assert_eq!(begun(), 3);
        // An address need not be looked up.
        names.look_up(HostPort { host: "192.0.2.7".into(), port: 9 }).await;
        assert_eq!(found.recv().await, Some(vec![SocketAddr::from(([192, 0, 2, 7], 9))]));
        // Nobody waits for them any more, but their threads are not free.
        tokio::time::sleep(names.patience + Duration::from_millis(200)).await;
        settle().await;
        assert_eq!(begun(), 3);
        names.close();
        looks.end.notify_waiters();
        while tasks.join_next().await.is_some() {}
        assert_eq!(begun(), 3);
    }
}
