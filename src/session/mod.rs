//! The whole program around one torrent: threads, commands, events, announcing.

mod events;
mod magnet;
mod magnet_peer;
mod offline;
mod run;

pub use crate::shard::{Progress, Snapshot};
pub use crate::storage::{CheckReport, FileReport};
pub use events::Event;
pub use magnet::{MagnetEvent, MagnetJob, Resolved, resolve};
pub use offline::{CreateOptions, check, create};
pub use run::{AnnounceLimits, Goal, Job, Listen, Outcome, SessionError, run};
