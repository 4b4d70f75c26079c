//! The swarm by directed tests, and many swarms against one another in a simulated world.

mod check;
mod node;
mod plan;
mod simulated;
mod world;
