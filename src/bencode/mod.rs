//! Room `bencode`.
