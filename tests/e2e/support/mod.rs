//! What every case needs: a stage to play on, payloads, torrents, processes, sums, and waiting.

pub(crate) mod https;
pub(crate) mod lan;
pub(crate) mod lan_tracker;
pub(crate) mod net;
pub(crate) mod payload;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod stage;
pub(crate) mod stub;
pub(crate) mod torrent;
pub(crate) mod wait;

pub(crate) use stage::Stage;
pub(crate) use torrent::Torrent;
