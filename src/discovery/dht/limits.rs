//! What strangers may have of us: so many queries a second, and no more bytes than twice what they have sent, for the
//! address of a packet can be forged. Who has answered a query of ours, or sends back a token, is there. Nobody is punished: whoever asks too much is not heard for as long as he does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Queries of an address: how many at once, and how long each takes to be allowed again.
const QUERIES: u32 = 50;
const QUERY_TIME: Duration = Duration::from_millis(200);
/// Bytes that an address may have for each that it sends, as long as it has proven nothing.
pub(super) const FACTOR: u64 = 2;
/// Bytes a second that we send to all together, and how many at once.
const UPLOAD_RATE: u64 = 8000;
const UPLOAD_BURST: u64 = 16_000;
/// Most addresses that are remembered, and for how long; when there are as many, only the shorter time.
const MAX_ADDRESSES: usize = 4096;
const MEMORY: Duration = Duration::from_secs(10 * 60);
const SHORT_MEMORY: Duration = Duration::from_secs(30);
/// A stranger is asked so often whether it is there.
const PROOF_PAUSE: Duration = Duration::from_secs(60);

/// What an address has had.
#[derive(Debug)]
struct Account {
    /// When all that was taken is allowed again.
    full_at: Duration,
    seen: Duration,
    verified: bool,
    /// When it was last asked whether it is there.
    asked: Option<Duration>,
    bytes_in: u64,
    bytes_out: u64,
}

/// The accounts of all addresses, and our own.
#[derive(Debug, Default)]
pub(super) struct Limits {
    accounts: HashMap<IpAddr, Account>,
    swept: Duration,
    /// When all that was sent is allowed again.
    upload_full_at: Duration,
}

/// Why a query is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Too many from this address.
    Queries,
    /// Too many addresses.
    Addresses,
}

impl Limits {
    /// A query of so many bytes has come.
    pub(super) fn query(&mut self, now: Duration, ip: IpAddr, len: usize) -> Result<(), Over> {
        let account = self.account(now, ip).ok_or(Over::Addresses)?;
        account.seen = now;
        account.bytes_in += len as u64;
        let full_at = account.full_at.max(now) + QUERY_TIME;
        if full_at > now + QUERY_TIME * QUERIES {
            return Err(Over::Queries);
        }
        account.full_at = full_at;
        Ok(())
    }

    /// The address has answered a query of ours, or has a token of ours: it is no forgery.
    pub(super) fn verified(&mut self, now: Duration, ip: IpAddr) {
        if let Some(account) = self.account(now, ip) {
            account.seen = now;
            account.verified = true;
        }
    }

    /// Whether the address is known to be none that is forged.
    pub(super) fn is_proven(&self, ip: IpAddr) -> bool {
        self.accounts.get(&key(ip)).is_some_and(|account| account.verified)
    }

    /// Whether it may be asked if it is there: not when it has just not answered that.
    pub(super) fn may_prove(&self, now: Duration, ip: IpAddr) -> bool {
        let paused = |at: Duration| now.saturating_sub(at) < PROOF_PAUSE;
        self.accounts
            .get(&key(ip))
            .is_none_or(|account| account.verified || !account.asked.is_some_and(paused))
    }

    /// It is asked if it is there.
    pub(super) fn proving(&mut self, now: Duration, ip: IpAddr) {
        if let Some(account) = self.accounts.get_mut(&key(ip)) {
            account.asked = Some(now);
        }
    }

    /// How many bytes the address may have of us now, in answer to its queries.
    pub(super) fn room(&self, now: Duration, ip: IpAddr) -> usize {
        let upload = self.upload(now);
        let own = match self.accounts.get(&key(ip)) {
            Some(account) if account.verified => u64::MAX,
            Some(account) => (FACTOR * account.bytes_in).saturating_sub(account.bytes_out),
            None => 0,
        };
        usize::try_from(own.min(upload)).unwrap_or(usize::MAX)
    }

    /// Whether there is so much to send to others that nothing is to be spent on strangers who keep silent.
    pub(super) fn is_busy(&self, now: Duration) -> bool {
        self.upload(now) < UPLOAD_BURST / 2
    }

    /// How many bytes may be sent to all together now.
    fn upload(&self, now: Duration) -> u64 {
        let time = (now + self.burst()).saturating_sub(self.upload_full_at);
        let bytes = u64::try_from(time.as_micros() * u128::from(UPLOAD_RATE) / 1_000_000);
        bytes.unwrap_or(u64::MAX).min(UPLOAD_BURST)
    }

    /// So many bytes go to the address.
    pub(super) fn sent(&mut self, now: Duration, ip: IpAddr, len: usize) {
        let cost = Duration::from_micros(len as u64 * 1_000_000 / UPLOAD_RATE);
        // Our own queries are sent in any case; they must not silence us for more than a moment.
        self.upload_full_at = (self.upload_full_at.max(now) + cost).min(now + self.burst() * 2);
        if let Some(account) = self.accounts.get_mut(&key(ip)) {
            account.bytes_out += len as u64;
        }
    }

    /// Forgets who has been silent for long.
    pub(super) fn sweep(&mut self, now: Duration) {
        self.accounts.retain(|_, account| now.saturating_sub(account.seen) < MEMORY);
    }

    fn burst(&self) -> Duration {
        Duration::from_micros(UPLOAD_BURST * 1_000_000 / UPLOAD_RATE)
    }

    fn account(&mut self, now: Duration, ip: IpAddr) -> Option<&mut Account> {
        let key = key(ip);
        if self.accounts.len() >= MAX_ADDRESSES && !self.accounts.contains_key(&key) {
            if now.saturating_sub(self.swept) >= Duration::from_secs(1) {
                self.swept = now;
                self.accounts.retain(|_, account| now.saturating_sub(account.seen) < SHORT_MEMORY);
            }
            if self.accounts.len() >= MAX_ADDRESSES {
                return None;
            }
        }
        let new =
            Account { full_at: now, seen: now, verified: false, asked: None, bytes_in: 0, bytes_out: 0 };
        Some(self.accounts.entry(key).or_insert(new))
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> usize {
        self.accounts.len()
    }
}

/// Who holds one IPv6 address holds all of its /64.
fn key(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}
