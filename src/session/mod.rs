//! The whole program around one torrent: threads, commands, events, announcing.

mod events;

pub use events::{CheckReport, Event, Progress};
