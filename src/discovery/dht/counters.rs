//! What a DHT counts.

/// Counted since the start, but for the last group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtCounters {
    /// Datagrams that came.
    pub datagrams_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams that we sent.
    pub datagrams_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Queries that were heard.
    pub queries_in: u64,
    /// Queries that we sent.
    pub queries_out: u64,
    /// Replies to queries of ours.
    pub replies_in: u64,
    /// Errors instead of them.
    pub errors_in: u64,
    /// Replies that we sent.
    pub replies_out: u64,
    /// Errors that we sent.
    pub errors_out: u64,
    /// Queries of ours that nobody answered in time.
    pub timeouts: u64,
    /// Announces that were accepted.
    pub announces_in: u64,
    /// Announces that we sent.
    pub announces_out: u64,
    /// Announces with a token that is not one of ours, or too old.
    pub bad_tokens: u64,
    /// Lookups begun.
    pub lookups: u64,
    /// Addresses of peers that were handed out to torrents.
    pub peers_found: u64,

    /// Dropped: no message of the DHT, or of a reply what is no whole address.
    pub malformed: u64,
    /// Dropped: an answer to nothing that we asked there.
    pub unsolicited: u64,
    /// Dropped, or not sent: to do with a host in the filter.
    pub filtered: u64,
    /// Answers of a node with another id than it was known by.
    pub wrong_ids: u64,
    /// Dropped: more queries than an address may send.
    pub over_query_limit: u64,
    /// Dropped: more queries than the addresses of one site may send together.
    pub over_site_limit: u64,
    /// Addresses that gave way to others: more than can be remembered, of all or of one site.
    pub over_address_limit: u64,
    /// Replies left out, or made shorter: more bytes than may be sent, to the address or to all.
    pub over_upload_limit: u64,
    /// Announces that pushed another out of the store, or were left out.
    pub over_store_limit: u64,
    /// Queries of ours not sent: too many under way.
    pub over_pending_limit: u64,
    /// Strangers not asked whether they are there: too many were being asked.
    pub over_proof_limit: u64,
    /// Answers to strangers that did not wait until it was known that they are there, and may be shorter for that: too many
    /// waited.
    pub over_held_limit: u64,
    /// Announced peers of a torrent of ours that were not handed on to it: too many of their host.
    pub over_host_limit: u64,
    /// Peers that a node has named and that were not believed: too many of one reply, or of one network, for a single search.
    pub over_share_limit: u64,
    /// Lookups not begun, and searches put off: too many under way.
    pub over_walk_limit: u64,
    /// Lookups that were ended before their time: they had asked too many nodes, or took too long.
    pub over_lookup_limit: u64,
    /// Nodes that a lookup was told of and left out: too many of one reply, or of all.
    pub over_candidate_limit: u64,
    /// Nodes whose word counted no more in a lookup: too many of those that they had named did not answer.
    pub over_lie_limit: u64,
    /// Replies of ours that hold fewer peers or nodes than we know, whoever asks: more than one may hold.
    pub over_reply_limit: u64,
    /// Peers found and lost: the torrent did not take them, and too many waited for it.
    pub over_outlet_limit: u64,
    /// Names of nodes not looked up, and addresses of them not used: too many.
    pub over_name_limit: u64,
    /// Wishes of torrents and peers that were lost: too many waited.
    pub over_wish_limit: u64,
    /// Peers and nodes that others told us of, left out: too many waited.
    pub over_queue_limit: u64,

    /// Now: nodes of the IPv4 table.
    pub nodes_v4: u64,
    /// Now: nodes of the IPv6 table.
    pub nodes_v6: u64,
    /// Now: torrents that others have announced to us.
    pub stored_torrents: u64,
    /// Now: their peers.
    pub stored_peers: u64,
}
