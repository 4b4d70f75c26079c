//! What a swarm counts.

/// How often a limit has said no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LimitHits {
    /// Requests not taken because too many of that peer wait already.
    pub requests: u64,
    /// Messages that should not have come: see [`DropReason::Offences`](super::DropReason::Offences).
    pub offences: u64,
    /// Peers refused, or dropped for new ones, because too many are connected.
    pub peers: u64,
    /// Addresses not remembered because there are too many.
    pub addresses: u64,
    /// Accepted connections closed because too many had not said their handshake.
    pub handshakes: u64,
    /// Encrypted handshakes refused because one host had begun too many.
    pub exchanges: u64,
    /// Things not told to the control thread because its mailbox was full.
    pub reports: u64,
    /// Things not told to another core because its mailbox was full.
    pub letters: u64,
    /// Bad tries at a piece of which it was forgotten who sent what, because there were too many.
    pub evidence: u64,
    /// Liars not remembered because there are too many.
    pub bans: u64,
    /// Addresses not dialled, and connections not taken, because of the user's filter.
    pub filtered: u64,
    /// Peers dropped because there was nothing to trade with them for long.
    pub idle: u64,
    /// Connections that were forgotten after their end, so that nothing they sent can be held against them.
    pub departed: u64,
    /// Peers dropped for a message that nobody may send: too long, of a wrong length, not agreed on, or about what the
    /// torrent does not have.
    pub messages: u64,
    /// Peers dropped because they said nothing for long, and strangers whose handshake was not there in time.
    pub silent: u64,
}

impl LimitHits {
    /// Each by its name.
    pub fn by_name(&self) -> [(&'static str, u64); 15] {
        let Self {
            requests,
            offences,
            peers,
            addresses,
            handshakes,
            exchanges,
            reports,
            letters,
            evidence,
            bans,
            filtered,
            idle,
            departed,
            messages,
            silent,
        } = *self;
        [
            ("requests", requests),
            ("offences", offences),
            ("peers", peers),
            ("addresses", addresses),
            ("handshakes", handshakes),
            ("exchanges", exchanges),
            ("reports", reports),
            ("letters", letters),
            ("evidence", evidence),
            ("bans", bans),
            ("filtered", filtered),
            ("idle", idle),
            ("departed", departed),
            ("messages", messages),
            ("silent", silent),
        ]
    }
}

impl std::ops::AddAssign for LimitHits {
    fn add_assign(&mut self, other: Self) {
        let Self {
            requests,
            offences,
            peers,
            addresses,
            handshakes,
            exchanges,
            reports,
            letters,
            evidence,
            bans,
            filtered,
            idle,
            departed,
            messages,
            silent,
        } = other;
        self.requests += requests;
        self.offences += offences;
        self.peers += peers;
        self.addresses += addresses;
        self.handshakes += handshakes;
        self.exchanges += exchanges;
        self.reports += reports;
        self.letters += letters;
        self.evidence += evidence;
        self.bans += bans;
        self.filtered += filtered;
        self.idle += idle;
        self.departed += departed;
        self.messages += messages;
        self.silent += silent;
    }
}

/// Sums over the life of the swarm, in payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Fetched and verified.
    pub downloaded: u64,
    /// Come from peers, as whole blocks: the sum of what each has sent.
    pub received: u64,
    /// Sent to peers.
    pub uploaded: u64,
    /// Received in vain: came twice, unasked, or in a bad piece.
    pub wasted: u64,
    /// Pieces that came out wrong.
    pub failed_pieces: u64,
    /// Limits met. Those of handshakes, exchanges and reports are met elsewhere: here they are 0.
    pub limits: LimitHits,
}
