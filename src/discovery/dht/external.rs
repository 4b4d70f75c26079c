//! Where we are, as others see us (BEP 42): what most of those say who answer us.

use super::table::same_network;
use std::collections::VecDeque;
use std::net::IpAddr;

/// How many of the last votes are kept, and how many of them must agree.
const VOTES: usize = 16;
const ENOUGH: usize = 8;

/// The last votes: who, and for what.
#[derive(Debug, Default)]
pub(super) struct External {
    votes: VecDeque<(IpAddr, IpAddr)>,
}

impl External {
    /// Somebody says that we are at `ip`. A network has one vote. The address when enough agree.
    pub(super) fn vote(&mut self, voter: IpAddr, ip: IpAddr) -> Option<IpAddr> {
        self.votes.retain(|(other, _)| *other != voter && !same_network(*other, voter));
        if self.votes.len() == VOTES {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, ip));
        let agreed = self.votes.iter().filter(|(_, other)| *other == ip).count();
        (agreed >= ENOUGH).then_some(ip)
    }
}
