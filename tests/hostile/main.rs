//! The program against peers that mean harm: raw sockets that say what no honest client says.
//!
//! `table` lists the misbehaviours, one a row and a test; `scene` plays a row beside honest peers and judges; `attacks`
//! has what the rows are made of, `extended`,
//! `encrypted` and `datagrams` those of extensions, of encryption and of the DHT. A new misbehaviour is a row, and a function when none there does it.
#![allow(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod datagrams;
mod encrypted;
mod extended;
mod honest;
mod scene;
mod single;
mod table;
