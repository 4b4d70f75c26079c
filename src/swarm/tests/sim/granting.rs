//! What the swarms of a simulated world wish, and how it is granted.

use super::plan::host_at;
use super::world::{Event, World};
use crate::swarm::{DropReason, PeerSlot, Wish};
use crate::wire::Reserved;
use std::collections::VecDeque;

impl World {
    pub(crate) fn serve(&mut self, node: usize) {
        let (mut wishes, mut woken) = (Vec::new(), VecDeque::new());
        loop {
            let most = if self.is_fine() { self.rng.usize(1..=8) } else { 64 };
            self.nodes[node].swarm.fill(&mut wishes, most);
            assert!(wishes.len() <= most);
            if !wishes.is_empty() {
                wishes.drain(..).for_each(|wish| self.grant(node, wish, &mut woken));
            } else if let Some(slot) = woken.pop_front() {
                // As in the program, nobody speaks before all wishes are served: memory is given back before it is taken again.
                self.woken(node, slot);
            } else {
                return;
            }
        }
    }

    fn grant(&mut self, node: usize, wish: Wish, woken: &mut VecDeque<PeerSlot>) {
        match wish {
            Wish::Wake(slot) => woken.push_back(slot),
            Wish::Hash(piece, runs) => self.later(1000, 3000, Event::Hashed(node, piece, runs)),
            Wish::Write(piece, run) => {
                self.nodes[node].begin_write(piece, run);
                let (slowest, fails) = (self.nodes[node].plan.disk, self.nodes[node].plan.fails);
                let written = if fails > 0.0 && self.rng.f64() < fails {
                    Event::Failed(node)
                } else {
                    Event::Written(node, piece, run)
                };
                self.later(2000, slowest, written);
            }
            Wish::Fingerprint(piece, runs) => self.later(3000, 20_000, Event::Printed(node, piece, runs)),
            Wish::Done { piece, good } => self.nodes[node].settle(piece, good),
            Wish::Drop(slot, reason) => self.dropped(node, slot, reason),
            Wish::Deadline => {
                let wait = self.nodes[node].swarm.next_deadline().saturating_sub(self.time());
                self.after(wait.as_micros() as u64 + 1, Event::Deadline(node));
            }
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
            Wish::Mention(..) => {}
            Wish::DhtNode(node) => unreachable!("nobody here speaks of DHT nodes: {node}"),
            Wish::Dial(to) => {
                let to = host_at(to);
                self.later(100_000, 150_000, Event::Dialled { from: node, to });
            }
        }
    }

    fn woken(&mut self, node: usize, slot: PeerSlot) {
        let Some(id) = self.nodes[node].ends.get(&slot).copied() else { return };
        if !self.is_fine() {
            self.pump(id);
        } else if !std::mem::replace(&mut self.end(id).pumping, true) {
            self.soon(2000, Event::Pump(id));
        }
    }

    fn dropped(&mut self, node: usize, slot: PeerSlot, reason: DropReason) {
        let Some(id) = self.nodes[node].ends.get(&slot).copied() else { return };
        let other = self.end((id.0, 1 - id.1)).node;
        match reason {
            DropReason::BothSeeds | DropReason::Duplicate => {}
            // Everybody here says what keeps a connection alive: only a line swallows it.
            DropReason::Silent if self.plan.trouble.stall > 0.0 => {}
            DropReason::Idle if self.plan.trouble.stall > 0.0 => {}
            DropReason::Lost(_) if self.nodes[other].plan.reserved == Reserved::default() => {}
            DropReason::BadPiece(_) if self.nodes[other].plan.is_liar() => self.tally.banned += 1,
            reason => panic!("node {node} dropped node {other}: {reason}"),
        }
        self.hang_up(id);
    }
}
