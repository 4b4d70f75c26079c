//! The swarm by directed tests, and many swarms against one another in a simulated world.

mod alone;
mod blame;
mod check;
mod choosing;
mod cores;
mod desk;
mod extended;
mod fast;
mod fetching;
mod granting;
mod limits;
mod node;
mod plan;
mod simulated;
mod slots;
mod super_seed;
mod talk;
mod world;
