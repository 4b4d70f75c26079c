//! The swarm by directed tests, and many swarms against one another in a simulated world.

mod ahead;
mod alone;
mod blame;
mod choosing;
mod cores;
mod cores_news;
mod desk;
mod dials;
mod endgame;
mod extended;
mod fast;
mod fetching;
mod homes;
mod in_order;
mod islands;
mod limits;
mod namesakes;
mod picking;
mod scarcity;
mod sim;
mod slots;
mod spreading;
mod super_seed;
mod talk;
mod turns;
mod votes;
