//! What is counted in a run, and what is told of it.

use serde::Serialize;

/// Faults that are told in full; the others are only counted.
const MAX_FAULTS: usize = 10;

/// What came of a run. Sizes are bytes, times seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// `download` or `upload`.
    pub mode: &'static str,
    /// The goal was reached (or the time set for the run went by), no block was bad, and every connection was made and
    /// lasted, unless fewer are allowed.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Payload moved: good blocks received, or bytes of blocks sent.
    pub bytes: u64,
    /// Whole blocks moved.
    pub blocks: u64,
    /// Blocks received with other bytes than the torrent's files have.
    pub bad_blocks: u64,
    /// Blocks received that were not, or no longer, asked for.
    pub unexpected_blocks: u64,
    /// From the first connection made to the end.
    pub seconds: f64,
    /// From the first to the last payload byte moved.
    pub transfer_seconds: f64,
    /// Processor time that this program used meanwhile, user and system.
    pub cpu_seconds: f64,
    /// `cpu_seconds` for 10⁹ bytes.
    pub cpu_seconds_per_gb: f64,
    /// `bytes` by `transfer_seconds`.
    pub bytes_per_second: u64,
    /// Connections wanted.
    pub connections: usize,
    /// Connections whose handshake was completed.
    pub connected: usize,
    /// Connections that moved payload.
    pub active: usize,
    /// Connections that ended before they were done, whether or not they had been made.
    pub closed_early: usize,
    /// Least payload of a connection whose handshake was completed.
    pub connection_bytes_min: u64,
    /// Most payload of a connection.
    pub connection_bytes_max: u64,
    /// Requests sent (download) or heard (upload).
    pub requests: u64,
    /// Requests sent once more, because the client choked or kept silent.
    pub repeated_requests: u64,
    /// Requests in flight on a connection, the mean over all receives (download) or sends (upload).
    pub outstanding_mean: f64,
    /// The most on one connection.
    pub outstanding_max: usize,
    /// Requests without an answer when the run ended.
    pub outstanding_at_end: u64,
    /// Times that the client choked a connection.
    pub chokes: u64,
    /// Pieces that the client has at the end of an upload, by what it said or by what it was sent.
    pub client_pieces: u32,
    /// System calls that received payload or messages.
    pub receives: u64,
    /// System calls that sent.
    pub sends: u64,
    /// What went wrong with connections: the first few.
    pub faults: Vec<String>,
    /// Sum and number of what the mean is of.
    #[serde(skip)]
    pub(super) outstanding: (u64, u64),
}

impl Report {
    pub(super) fn fault(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Notes how many requests are in flight on a connection.
    pub(super) fn outstanding(&mut self, count: usize) {
        self.outstanding.0 += count as u64;
        self.outstanding.1 += 1;
        self.outstanding_max = self.outstanding_max.max(count);
    }

    /// Works out what follows from the rest.
    pub(super) fn finish(&mut self) {
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        self.cpu_seconds_per_gb = ratio(self.cpu_seconds * 1e9, self.bytes as f64);
        self.bytes_per_second = ratio(self.bytes as f64, self.transfer_seconds) as u64;
        self.outstanding_mean = ratio(self.outstanding.0 as f64, self.outstanding.1 as f64);
    }
}
