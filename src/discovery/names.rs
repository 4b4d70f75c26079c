//! Host names, asked of the system's resolver on the control thread's helpers. A look-up cannot be called back: one that nobody waits
//! for any more keeps its thread until the resolver gives up. So of each kind no more are under way in the whole program than it has
//! turns, and whose names are slow keeps nobody else from theirs.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Look-ups at a time: of trackers, of peers that these give by name, of nodes of the DHT, of peers in a magnet link.
const OF_TRACKERS: usize = 32;
const OF_PEERS: usize = 8;
const OF_NODES: usize = 4;
const OF_LINKS: usize = 2;

/// Threads that are busy when all of them are slow.
pub const MOST_LOOKUPS: usize = OF_TRACKERS + OF_PEERS + OF_NODES + OF_LINKS;

/// How long one is waited for, from when it is its turn.
const PATIENCE: Duration = Duration::from_secs(10);

static TRACKERS: LazyLock<Names> = LazyLock::new(|| Names::new(OF_TRACKERS, PATIENCE));
static PEERS: LazyLock<Names> = LazyLock::new(|| Names::new(OF_PEERS, PATIENCE));
static NODES: LazyLock<Names> = LazyLock::new(|| Names::new(OF_NODES, PATIENCE));

/// Looks up names of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl Names {
    /// Of trackers.
    pub(crate) fn of_trackers() -> Self {
        TRACKERS.clone()
    }

    /// Of peers that trackers give by name.
    pub(crate) fn of_peers() -> Self {
        PEERS.clone()
    }

    /// Of nodes of the DHT.
    pub(crate) fn of_nodes() -> Self {
        NODES.clone()
    }

    /// Of peers in a magnet link, of which a program has one. They can be [closed](Self::close).
    pub(crate) fn of_a_link() -> Self {
        Self::new(OF_LINKS, PATIENCE / 2)
    }

    /// So many at a time; each is waited for so long, from when it is its turn.
    pub(crate) fn new(at_a_time: usize, patience: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_a_time)), patience }
    }

    /// The addresses of a host, in the resolver's order. What is an address already waits for no turn.
    ///
    /// # Errors
    /// When it has none, or the resolver takes too long.
    pub(crate) async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let host = host.to_owned();
        self.take(async move { Ok(lookup_host((host.as_str(), port)).await?.collect()) }).await
    }

    async fn take(
        &self,
        look: impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    ) -> io::Result<Vec<SocketAddr>> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(io::Error::other)?;
        let found = tokio::spawn(async move {
            let _turn = turn;
            look.await
        });
        let found = timeout(self.patience, found).await?;
        found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// From here on none is begun.
    pub(crate) fn close(&self) {
        self.turns.close();
    }

    /// Where turns are taken.
    #[cfg(test)]
    pub(crate) fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turns)
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
    async fn so_many_are_looked_up_at_a_time_and_none_when_it_is_over() {
        let names = Names::new(2, Duration::from_millis(500));
        let looks = Arc::new(Looks::default());
        let mut tasks = JoinSet::new();
        for number in 0..10 {
            let (looks, names) = (Arc::clone(&looks), names.clone());
            tasks.spawn(async move {
                let look = async move {
                    looks.begun.fetch_add(1, Ordering::Relaxed);
                    looks.end.notified().await;
                    Ok(vec![SocketAddr::from(([127, 0, 0, 1], number))])
                };
                names.take(look).await
            });
        }
        let begun = || looks.begun.load(Ordering::Relaxed);
        settle().await;
        assert_eq!(begun(), 2);
        looks.end.notify_one();
        let first = tasks.join_next().await.expect("one was found").expect("no panic");
        assert_eq!(first.map(|addrs| addrs.len()).ok(), Some(1));
        settle().await;
        assert_eq!(begun(), 3);
        // An address need not be looked up.
        let here = names.look_up("192.0.2.7", 9).await;
        assert_eq!(here.ok(), Some(vec![SocketAddr::from(([192, 0, 2, 7], 9))]));
        // Nobody waits for them any more, but their threads are not free.
        for _ in 0..2 {
            let late = tasks.join_next().await.expect("there are more").expect("no panic");
            assert_eq!(late.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        }
        settle().await;
        assert_eq!(begun(), 3);
        names.close();
        looks.end.notify_waiters();
        while let Some(left) = tasks.join_next().await {
            assert!(left.expect("no panic").is_err());
        }
        assert_eq!(begun(), 3);
    }
}
