//! What is still to be said to trackers when it is over.

use crate::discovery::tracker::{Announcing, Told};
use std::net::SocketAddr;

/// What a magnet link has told trackers of us, which holds until it is taken back, or until the session that follows from the same
/// place by the same name takes it over.
#[derive(Debug, Default)]
pub struct Farewell(Option<(SocketAddr, Option<Announcing>)>);

impl Farewell {
    /// To be said by who has listened there, and has told trackers so, if any were told.
    pub(super) fn new(listened: SocketAddr, announcing: Option<Announcing>) -> Self {
        Self(Some((listened, announcing)))
    }

    /// Where peers were told to connect to.
    pub(super) fn listened(&self) -> Option<SocketAddr> {
        self.0.as_ref().map(|(addr, _)| *addr)
    }

    /// Tells trackers that we have gone. Takes 5 s at most.
    pub async fn say(self) {
        stop(self.0.and_then(|(_, announcing)| announcing)).await;
    }

    /// Lets who announces for this address go on, and gives the trackers that know us. Whoever was told of another place is told
    /// first that we have gone from there: some know us by our name alone.
    pub(super) async fn hand_over(self, addr: SocketAddr) -> Vec<Told> {
        if self.listened().is_some_and(|listened| listened.port() != addr.port()) {
            self.say().await;
            return Vec::new();
        }
        match self.0 {
            Some((_, Some(announcing))) => announcing.leave().await,
            _ => Vec::new(),
        }
    }
}

pub(super) async fn stop(announcing: Option<Announcing>) {
    if let Some(announcing) = announcing {
        announcing.stop().await;
    }
}
