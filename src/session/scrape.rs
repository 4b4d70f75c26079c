//! What the trackers of a torrent count, without taking part in its swarm.

use crate::discovery::tracker::{Scrape, TrackerClient, TrackerOptions, UdpPatience, label};
use crate::metainfo::Torrent;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A person waits for it: two datagrams, then UDP trackers have had their chance.
const PATIENCE: UdpPatience = UdpPatience { first_wait: Duration::from_secs(5), retries: 1 };
/// Most trackers that are asked.
const MAX_TRACKERS: usize = 100;

/// What one tracker has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scraped {
    /// The tracker, by scheme and host.
    pub tracker: String,
    /// Its counts, `None` when it does not know the torrent; or why there are none.
    pub result: Result<Option<Scrape>, String>,
}

/// Asks all trackers of a torrent at once, and calls `tell` for each as soon as it has answered or failed. To be called
/// inside a tokio runtime.
pub async fn scrape(torrent: &Torrent, options: TrackerOptions, mut tell: impl FnMut(Scraped)) {
    let client = Arc::new(TrackerClient::new(TrackerOptions { patience: PATIENCE, ..options }));
    let mut scrapes = JoinSet::new();
    for url in torrent.trackers.iter().flatten().take(MAX_TRACKERS) {
        let (client, url, info_hash) = (Arc::clone(&client), url.clone(), torrent.info_hash);
        scrapes.spawn(async move {
            let counts = client.scrape(&url, &[info_hash]).await;
            let result = counts.map(|counts| counts.into_iter().next().flatten());
            Scraped { tracker: label(&url), result: result.map_err(|error| error.to_string()) }
        });
    }
    while let Some(scraped) = scrapes.join_next().await {
        tell(scraped.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
}
