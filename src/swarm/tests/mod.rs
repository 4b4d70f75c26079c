//! The swarm by directed tests, and many swarms against one another in a simulated world.

mod check;
mod cores;
mod desk;
mod extended;
mod fast;
mod fetching;
mod granting;
mod node;
mod plan;
mod simulated;
mod talk;
mod world;
