//! The whole program around one torrent: threads, commands, events, announcing.

mod dht;
mod events;
mod farewell;
mod job;
mod listen;
mod lull;
mod magnet;
mod offline;
mod run;
mod scrape;
#[cfg(test)]
mod tests;

pub use crate::discovery::tracker::{Authorities, Count, TrackerCounts, TrackerOptions};
pub use crate::shard::{Choices, Progress, Snapshot};
pub use crate::storage::{CheckReport, FileReport};
pub use dht::DhtOptions;
pub use events::{Event, TrackerAnswer};
pub use farewell::Farewell;
pub use job::{AnnounceLimits, Goal, Job};
pub use listen::Listen;
pub use magnet::{MagnetEvent, MagnetJob, MagnetLimits, Resolved, resolve};
pub use offline::{CreateOptions, check, create};
pub use run::{Outcome, SessionError, run};
pub use scrape::{Scraped, scrape};
