//! Who is kept out: hosts in the user's filter, and those of several liars. How often that was so is counted.

use super::liars::Liars;
use super::places::Source;
use crate::swarm::IpFilter;
use std::net::IpAddr;
use std::sync::Arc;

/// Why somebody is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Filtered,
    Liars,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Door {
    filter: Option<Arc<IpFilter>>,
    pub(super) liars: Liars,
    /// Connections and addresses that were not taken, for each reason.
    pub(super) filtered: u64,
    pub(super) barred: u64,
}

impl Door {
    pub(super) fn new(filter: Option<Arc<IpFilter>>) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Why nobody of this host is dialled whom `source` has named: for what was given, the lies of others there do not count.
    pub(super) fn keeps_out(&self, ip: IpAddr, source: Source) -> Option<Reason> {
        if self.filter.as_ref().is_some_and(|filter| filter.contains(ip)) {
            return Some(Reason::Filtered);
        }
        (source != Source::Given && self.liars.shut_out(ip)).then_some(Reason::Liars)
    }

    /// Whether whom `source` has named at this host may be dialled. One that may not is counted.
    pub(super) fn admit(&mut self, ip: IpAddr, source: Source) -> bool {
        match self.keeps_out(ip, source) {
            None => return true,
            Some(Reason::Filtered) => self.filtered += 1,
            Some(Reason::Liars) => self.barred += 1,
        }
        false
    }

    /// Whether who has come from this host may be let in. One that may not is counted.
    pub(super) fn lets_in(&mut self, ip: IpAddr) -> bool {
        self.admit(ip, Source::Search)
    }
}
