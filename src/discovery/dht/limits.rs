//! What strangers may have of us: so many queries a second, and no more bytes than twice what they have sent, for the
//! address of a packet can be forged. Who has answered a query of ours, or sends back a token, is there. Nobody is punished: whoever asks too much is not heard for as long as he does.

use super::accounts::{Account, Accounts, Site};
use std::net::IpAddr;
use std::time::Duration;

/// Queries of an address: how many at once, and how long each takes to be allowed again.
const QUERIES: u32 = 50;
const QUERY_TIME: Duration = Duration::from_millis(200);
/// The addresses of a site together may ask so many times as often, but no more at once.
const SITE: u32 = 4;
/// Bytes that an address may have for each that it sends, as long as it has proven nothing.
pub(super) const FACTOR: u64 = 2;
/// Bytes a second that we send to all together, and how many at once.
const UPLOAD_RATE: u64 = 8000;
const UPLOAD_BURST: u64 = 16_000;
/// Of these, what is kept for those who have proven that they are there.
const UPLOAD_RESERVE: u64 = 4000;
/// For how long an address is remembered, unless others need its place.
const MEMORY: Duration = Duration::from_secs(10 * 60);
/// A stranger is asked so often whether it is there.
const PROOF_PAUSE: Duration = Duration::from_secs(60);

/// The accounts of all addresses, and our own.
#[derive(Debug)]
pub(super) struct Limits {
    /// Of each family: none takes places from the other.
    accounts: [Accounts; 2],
    /// When all that was sent is allowed again.
    upload_full_at: Duration,
    rng: fastrand::Rng,
}

/// Why a query is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Too many from this address.
    Queries,
    /// Too many from its site.
    Site,
}

impl Limits {
    pub(super) fn new(rng: fastrand::Rng) -> Self {
        Self { accounts: Default::default(), upload_full_at: Duration::ZERO, rng }
    }

    /// A query of so many bytes has come.
    pub(super) fn query(&mut self, now: Duration, ip: IpAddr, len: usize) -> Result<(), Over> {
        let (accounts, host) = (&mut self.accounts[family(ip)], key(ip));
        let charged = |full_at: Duration, time: Duration| {
            let full_at = full_at.max(now) + time;
            Some(full_at).filter(|full_at| *full_at <= now + time * QUERIES)
        };
        let of_site = |site: &Site| charged(site.full_at, QUERY_TIME / SITE);
        if accounts.site(host).is_some_and(|site| of_site(site).is_none()) {
            return Err(Over::Site);
        }
        let account = accounts.open(now, host, &mut self.rng);
        account.seen = now;
        account.bytes_in += len as u64;
        account.full_at = charged(account.full_at, QUERY_TIME).ok_or(Over::Queries)?;
        if let Some(site) = accounts.site(host) {
            site.full_at = of_site(site).unwrap_or(site.full_at);
        }
        Ok(())
    }

    /// The address has answered a query of ours, or has a token of ours: it is no forgery.
    pub(super) fn verified(&mut self, now: Duration, ip: IpAddr) {
        let account = self.accounts[family(ip)].open(now, key(ip), &mut self.rng);
        account.seen = now;
        account.verified = true;
    }

    /// Whether the address is known to be none that is forged.
    pub(super) fn is_proven(&self, ip: IpAddr) -> bool {
        self.account(ip).is_some_and(|account| account.verified)
    }

    /// Whether it may be asked if it is there: not when it has just not answered that.
    pub(super) fn may_prove(&self, now: Duration, ip: IpAddr) -> bool {
        let paused = |at: Duration| now.saturating_sub(at) < PROOF_PAUSE;
        self.account(ip).is_none_or(|account| account.verified || !account.asked.is_some_and(paused))
    }

    /// It is asked if it is there.
    pub(super) fn proving(&mut self, now: Duration, ip: IpAddr) {
        if let Some(account) = self.account_mut(ip) {
            account.asked = Some(now);
        }
    }

    /// How many bytes the address may have of us now, in answer to its queries.
    pub(super) fn room(&self, now: Duration, ip: IpAddr) -> usize {
        let upload = self.upload(now);
        let own = match self.account(ip) {
            Some(account) if account.verified => u64::MAX,
            Some(account) => (FACTOR * account.bytes_in)
                .saturating_sub(account.bytes_out)
                .min(upload.saturating_sub(UPLOAD_RESERVE)),
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
        if let Some(account) = self.account_mut(ip) {
            account.bytes_out += len as u64;
        }
    }

    /// Forgets who has been silent for long.
    pub(super) fn sweep(&mut self, now: Duration) {
        self.accounts.iter_mut().for_each(|accounts| accounts.sweep(now, MEMORY));
    }

    fn burst(&self) -> Duration {
        Duration::from_micros(UPLOAD_BURST * 1_000_000 / UPLOAD_RATE)
    }

    fn account(&self, ip: IpAddr) -> Option<&Account> {
        self.accounts[family(ip)].get(key(ip))
    }

    fn account_mut(&mut self, ip: IpAddr) -> Option<&mut Account> {
        self.accounts[family(ip)].get_mut(key(ip))
    }

    /// How many addresses were forgotten for others.
    pub(super) fn displaced(&self) -> u64 {
        self.accounts.iter().map(Accounts::displaced).sum()
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> usize {
        self.accounts.iter().map(Accounts::len).sum()
    }
}

/// The number of the family.
fn family(ip: IpAddr) -> usize {
    usize::from(ip.is_ipv6())
}

/// Who holds one IPv6 address holds all of its /64.
fn key(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}
