//! What the swarms of a simulated world wish, and how it is granted.

use super::node::{Origin, run_of};
use super::world::{Event, World};
use crate::swarm::{DropReason, HandIn, Handover, PeerSlot, Wish};
use std::net::SocketAddr;

impl World {
    pub(super) fn serve(&mut self, node: usize) {
        let mut wishes = Vec::new();
        loop {
            let most = self.rng.usize(1..=8);
            self.nodes[node].swarm.fill(&mut wishes, most);
            assert!(wishes.len() <= most);
            if wishes.is_empty() {
                return;
            }
            wishes.drain(..).for_each(|wish| self.grant(node, wish));
        }
    }

    fn grant(&mut self, node: usize, wish: Wish) {
        match wish {
            Wish::Wake(slot) => {
                let Some(id) = self.nodes[node].ends.get(&slot).copied() else { return };
                if !std::mem::replace(&mut self.end(id).pumping, true) {
                    self.soon(2000, Event::Pump(id));
                }
            }
            Wish::Hash(piece, runs) => self.soon(3000, Event::Hashed(node, piece, runs)),
            Wish::Write(piece, run) => {
                self.nodes[node].begin_write(piece, run);
                self.soon(60_000, Event::Written(node, piece, run));
            }
            Wish::Fingerprint(piece) => self.soon(20_000, Event::Printed(node, piece)),
            Wish::Done { piece, good } => self.nodes[node].settle(piece, good),
            Wish::Drop(slot, reason) => self.dropped(node, slot, reason),
            Wish::Nudge => {
                for core in 0..self.nodes[node].plan.cores {
                    let other = self.neighbour(node, core);
                    if other != node {
                        self.soon(500, Event::CatchUp(other));
                    }
                }
            }
            Wish::Evict(tag) => {
                let other = self.neighbour(node, tag.core());
                self.soon(500, Event::Evict(other, tag));
            }
            Wish::Blame(tag, piece) => {
                let other = self.neighbour(node, tag.core());
                self.soon(500, Event::Blame(other, tag, piece));
            }
            Wish::DhtNode(node) => unreachable!("nobody here speaks of DHT nodes: {node}"),
            Wish::Dial(to) => {
                let SocketAddr::V4(to) = to else { unreachable!("the world is IPv4") };
                let to = usize::from(to.ip().octets()[3]);
                self.soon(150_000, Event::Dialled { from: node, to });
            }
        }
    }

    fn dropped(&mut self, node: usize, slot: PeerSlot, reason: DropReason) {
        let Some(id) = self.nodes[node].ends.get(&slot).copied() else { return };
        let other = self.end((id.0, 1 - id.1)).node;
        match reason {
            DropReason::BothSeeds | DropReason::Duplicate | DropReason::Silent | DropReason::Idle => {}
            DropReason::BadPiece(_) if self.nodes[other].plan.is_liar() => {}
            reason => panic!("node {node} dropped node {other}: {reason}"),
        }
        self.nodes[node].dropped.push((slot, reason));
        self.hang_up(id);
    }

    /// Another core of the same host.
    pub(super) fn neighbour(&self, node: usize, core: usize) -> usize {
        node - self.nodes[node].core + core
    }

    /// A block comes that another core has fetched.
    pub(super) fn hand_in(&mut self, to: usize, handover: &Handover, origin: Origin) -> usize {
        let now = self.time();
        let node = &mut self.nodes[to];
        node.received += u64::from(handover.block.len);
        self.handed += 1;
        let slabs = node.free_slabs();
        if let HandIn::Taken { opened } = node.swarm.hand_in(now, handover, slabs) {
            if opened {
                node.open((handover.block.piece, run_of(&handover.block)));
            }
            node.store(&handover.block, origin);
        }
        to
    }
}
