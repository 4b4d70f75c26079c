//! What a swarm counts.

/// Makes [`LimitHits`] of one list of names, so that no limit is forgotten where all are told or added.
macro_rules! limit_hits {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often a limit has said no.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct LimitHits {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl LimitHits {
            /// Each by its name.
            pub fn by_name(&self) -> [(&'static str, u64); [$(stringify!($name)),*].len()] {
                [$((stringify!($name), self.$name)),*]
            }
        }

        impl std::ops::AddAssign for LimitHits {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

limit_hits! {
    /// Requests not taken because too many of that peer wait already, and metadata that it was given too often.
    requests,
    /// Messages that should not have come, and peers that did not take what they were told of that: see
    /// [`DropReason::Offences`](super::DropReason::Offences).
    offences,
    /// Peers refused, or dropped for new ones, because too many are connected.
    peers,
    /// Addresses not remembered because there are too many.
    addresses,
    /// Accepted connections closed because too many had not said their handshake.
    handshakes,
    /// Connections that had to wait in the kernel's queue because others came too fast.
    arrivals,
    /// Connections and files that had to wait because descriptors were short.
    descriptors,
    /// Encrypted handshakes refused because one host had begun too many.
    exchanges,
    /// Things not told to the control thread because its mailbox was full.
    reports,
    /// Things not told to another core because its mailbox was full.
    letters,
    /// Blocks thrown away because too many were put aside: their home was on another core, or another peer in the middle of them.
    asides,
    /// Bad tries at a piece of which it was forgotten who sent what, because there were too many.
    evidence,
    /// Liars not remembered because there are too many.
    bans,
    /// Addresses not dialled, and connections not taken, because of the user's filter.
    filtered,
    /// Peers dropped because there was nothing to trade with them for long.
    idle,
    /// Connections that were forgotten after their end, so that nothing they sent can be held against them.
    departed,
    /// Peers dropped for a message that nobody may send: too long, of a wrong length, not agreed on, or about what the
    /// torrent does not have.
    messages,
    /// Peers dropped because they said nothing for long, or took nothing of what waited for them, and connections of either side
    /// whose handshake was not there in time.
    silent,
    /// Dials that nobody answered in time.
    dials,
    /// Addresses given up because too many tries there have failed.
    failures,
    /// Connections refused because too many of that host, or of its network, are up.
    hosts,
    /// Addresses that were due when too many dials to their networks had come to nothing.
    networks,
    /// Addresses not remembered, or forgotten for those of others, because the peer that told of them has told of many.
    tellers,
    /// Requests of ours taken back because the peer did not answer them in time, or choked us instead, over and over.
    unanswered,
    /// Times at which a peer could be asked for nothing more for want of memory.
    memory,
    /// Looks at a peer, two a second, at which it was worth more requests than it takes or than we ever have open.
    windows,
    /// Times at which what a peer sends began to pile up in our socket, for this core is slower: it is asked for less ahead.
    lags,
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
    /// Pieces that were had and cannot be read any more.
    pub lost_pieces: u64,
    /// Peer exchange.
    pub exchange: ExchangeCounts,
    /// What became of requests.
    pub requests: RequestCounts,
    /// Limits met, as far as they are met here.
    pub limits: LimitHits,
}

/// What became of the requests of peers; those that are missing wait still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Handed over to be sent.
    pub served: u64,
    /// Not taken: the peer is choked, we lack the piece, or too many of its requests wait.
    pub refused: u64,
    /// Taken back by the peer.
    pub cancelled: u64,
    /// Given up because the peer was choked, or has gone.
    pub dropped: u64,
}

/// What peer exchange (BEP 11) has said and heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeCounts {
    /// Messages heard and used.
    pub heard: u64,
    /// Messages said.
    pub said: u64,
    /// Messages not used because the peer sends too many.
    pub too_often: u64,
    /// Messages not used because they could not be read.
    pub unread: u64,
    /// Addresses in the messages that were used.
    pub peers: u64,
    /// Of these, addresses where nobody can be, or that are known or too many of one host.
    pub unused: u64,
    /// Messages that named more addresses than are taken of one.
    pub too_long: u64,
}
