//! The simulator: many swarms of the real core in one thread and in virtual time. Everything that happens comes from the
//! seed, which is printed when a run fails, with what runs it again; the same seed gives the same run.
//!
//! | file | what it is about |
//! |---|---|
//! | `plan` | who takes part, how good the links are, what goes wrong |
//! | `world` | what happens when; the end |
//! | `node` | one core of one who takes part, its memory and its disk |
//! | `granting` | what swarms wish, and how it is granted |
//! | `lines` | connections, and what is sent on them |
//! | `parts` | what comes, in parts, as sockets give it |
//! | `check`, `biting` | what must hold after every step; and that what does not is found |
//! | `fair` | what may not last: a peer that lies idle, one that is passed over |
//! | `fetching` | one that fetches alone from seeds of all kinds |
//! | `random` | worlds of all kinds, small ones |
//! | `scenarios`, `table`, `measured` | large swarms of the issue, what they take, and which aims are met |
//!
//! There is one world. Small swarms in it have little memory, several cores, slow disks, lines that break in the middle of
//! a block, and receives of any length; everything is looked at after every step. In large ones blocks come whole; what was
//! said and asked is looked at every step, and all of a node once in many of its steps.

mod biting;
mod check;
mod fair;
pub(crate) mod fetching;
mod granting;
mod lines;
mod measured;
mod node;
mod parts;
pub(crate) mod plan;
mod random;
mod scenarios;
mod table;
pub(crate) mod world;
