//! What is still to be said to trackers when it is over.

use crate::discovery::tracker::Announcing;
use std::net::SocketAddr;

/// What a magnet link has told trackers of us, which holds until it is taken back, or until the session that follows announces
/// from the same place by the same name. (A tracker that takes us in for the link and refuses the session forgets us by itself.)
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

    /// Lets who announces for this address go on. Whoever was told of another place is told first that we have gone from there:
    /// some know us by our name alone.
    pub(super) async fn hand_over(self, addr: SocketAddr) {
        if self.listened().is_some_and(|listened| listened.port() != addr.port()) {
            self.say().await;
        }
    }
}

pub(super) async fn stop(announcing: Option<Announcing>) {
    if let Some(announcing) = announcing {
        announcing.stop().await;
    }
}
