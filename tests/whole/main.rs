//! The program as it is used: its commands, what a person may choose, whom it serves, magnet links, nodes of the DHT, odd requests, several cores, and
//! its load generator. One program of tests, for most of them wait more than they work; those that measure have one of their own.

#[path = "../common/mod.rs"]
mod common;

mod choices;
mod chokers;
mod cli;
mod cores;
mod ends;
mod load;
mod magnets;
mod nodes;
mod requests;
mod twins;
