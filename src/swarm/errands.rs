//! Cores helping each other: what is new on one is learned by the others, and a core whose peers have nothing left to do fetches
//! blocks of pieces that another has claimed.
//!
//! A core that is out of work says so in the [`Commons`](super::Commons). The others then show which blocks their pieces lack: those
//! that nobody was asked for, unless they come at once, that are late, or that would be long in coming. (What is to be played next
//! they show anyhow.) Whoever takes one asks a peer of its own for it and hands it over: so no piece is held up by the peers of the
//! core that claimed it. What was taken the holder asks of nobody, unless it does not come.
//!
//! Such blocks are copied, into memory of the core that holds the piece, so there shall be few. Towards the end a core that has
//! blocks to ask for begins no more than its share of the pieces that are left ([`Swarm::has_its_share`]), and what it was asked of
//! the holder's peers is asked once more only where that saves time.

use super::active::{ActivePiece, is_whole};
use super::commons::Lacking;
use super::lateness::{LATE, is_longer};
use super::peer::Peer;
use super::{DropReason, Handover, PeerSlot, Swarm};
use crate::metainfo::{BLOCK_LEN, Block, PieceIndex};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// Most blocks that the cores show and fetch for each other at a time: their bytes lie outside the slabs until they are
/// whole. Mailboxes have room for them.
pub(super) const MOST_ERRANDS: usize = 1024;
/// A core may begin pieces while it has less than this part of its share of those that are left.
const SHARES: usize = 2;
/// Blocks that nobody was asked for are left to a core's own peers when these have them sooner than in so many seconds: that is no
/// longer than it takes to come by help.
const LEAST_HELP: f64 = 0.25;

/// What a core shows the others, as far as it knows.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// What was put there, and was not taken when we last looked.
    shown: BTreeSet<Block>,
    /// Pieces of which the first block stands for all that is here: others may begin them anew.
    whole: BTreeSet<PieceIndex>,
    /// Blocks that others fetch for us, and when we learned that.
    pub(super) taken: BTreeMap<Block, Duration>,
    /// Pieces that are left to other cores, and until when.
    left: BTreeMap<PieceIndex, Duration>,
    /// When we last looked.
    looked: Duration,
    /// When another core last handed something in.
    handed: Duration,
}

impl Board {
    fn is_clear(&self) -> bool {
        self.shown.is_empty() && self.taken.is_empty() && self.left.is_empty()
    }

    /// Whether the piece is left to other cores.
    pub(super) fn has_left(&self, piece: PieceIndex) -> bool {
        self.left.contains_key(&piece)
    }
}

/// What becomes of a block that another core has fetched for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandIn {
    /// It is taken: put it home. These runs of its piece, the last of which is its own, need a slab each first.
    Taken {
        /// Runs that have no memory yet.
        opened: Range<usize>,
    },
    /// It is not needed any more, or there is no memory for it.
    Refused,
}

impl Swarm {
    /// Takes in what is new on other cores. To be called when one of them has nudged us.
    pub fn catch_up(&mut self, now: Duration) {
        if self.commons.cores() == 1 {
            return;
        }
        self.choke(now);
        self.see_others_spread(now);
        self.see_losses();
        let news = self.read_log(now) | self.regain();
        let is_idle = |peer: &Peer| peer.is_hungry() && (peer.asked.is_empty() || peer.runs_dry());
        let idle = self.peers.iter().any(|(_, peer)| is_idle(peer));
        // That there is nothing to ask is found when somebody is to be asked.
        let idle = idle && self.commons.is_idle(self.core) && !self.is_starved();
        self.commons.set_idle(self.core, idle);
        self.show_lacking(now);
        if news || idle {
            self.wake_hungry();
        }
    }

    /// Reads on in the log of pieces had; says whether there were any.
    pub(super) fn read_log(&mut self, now: Duration) -> bool {
        // Those who have waited come first, or what is new now would put them off.
        self.tell_of_pieces(now);
        let (before, at_once) = (self.have.count(), self.telling.is_time(now));
        while let Some(number) = self.commons.map.logged(self.have.count()) {
            let piece = self.layout.piece(number).expect("only pieces of this torrent are had");
            self.have.insert(piece);
            self.left -= u32::from(self.commons.selection.wants(piece));
            self.picker.remove(piece);
            self.learn(piece, at_once);
        }
        let news = self.have.count() > before;
        if news {
            self.note_news(now, at_once);
        }
        if news && self.is_seeding() {
            self.revise_slots();
            let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
            for slot in slots {
                if self.check_seed(slot).is_err() {
                    self.drop_peer(slot, DropReason::BothSeeds);
                }
            }
        }
        news
    }

    /// A piece is had that was not before. Peers who are to hear of it are told `at_once` or later.
    fn learn(&mut self, piece: PieceIndex, at_once: bool) {
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let wanted = self.settings.fetch && self.commons.selection.wants(piece);
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            let has = peer.has.has(piece);
            if has && wanted {
                peer.wanted -= 1;
                peer.fast.unlearn(piece);
            }
            // A seed sees by this who passes on what it gave, and a super-seed, which has nothing else for us, shows the next piece.
            // While it does not choke us, our requests tell it soon enough.
            let (waits, untold) = (has && peer.wanted == 0, !has || peer.chokes_us);
            if waits || at_once && untold {
                self.wake(slot);
            }
        }
        self.restarts.remove(&piece);
        self.drop_errands(piece);
    }

    /// Pieces whose claims other cores have given back are to be had again; says whether there may be any.
    fn regain(&mut self) -> bool {
        let releases = self.commons.map.releases();
        let news = std::mem::replace(&mut self.releases, releases) != releases;
        if news && self.settings.fetch {
            let lost = |piece: &PieceIndex| {
                self.commons.map.is_missing(*piece)
                    && !self.picker.holds(*piece)
                    && !self.active.contains_key(piece)
            };
            let lost: Vec<PieceIndex> = self.layout.pieces().filter(lost).collect();
            lost.into_iter().for_each(|piece| self.picker.add(piece));
        }
        news
    }

    // ---- asking for help ----

    /// A peer could be asked for more, but there is nothing to ask.
    pub(super) fn report_idle(&mut self) {
        // Want of memory is no want of work.
        if self.commons.cores() > 1 && !self.is_starved() && !self.is_seeding() {
            self.nudge |= self.commons.set_idle(self.core, true);
        }
    }

    /// Whether this core has as many unfinished pieces as it may while others could begin those that are left, so that all
    /// end at the same time. Its peers then ask for more of these pieces, as long as they can.
    pub(super) fn has_its_share(&self) -> bool {
        let cores = self.commons.cores();
        let share = (self.commons.map.left() as usize).div_ceil(cores * SHARES).max(1);
        let filling = || self.active.values().filter(|active| active.is_filling()).count();
        cores > 1 && self.active.len() >= share && filling() >= share
    }

    /// Shows the others what our pieces lack, while they have nothing better to do; pieces that we cannot go on with are
    /// given back.
    fn show_lacking(&mut self, now: Duration) {
        let wanted = self.commons.others_idle(self.core);
        if !wanted && !self.settings.sequential && self.board.is_clear() {
            return;
        }
        let before = self.look_at_board(now);
        if wanted {
            self.give_up_hopeless(now);
        }
        let mut lacking = self.lacking_at_playhead(now, self.room_on_board());
        let mut shown: BTreeSet<Block> = lacking.iter().map(|lacking| lacking.block).collect();
        if wanted {
            let rest = self.lacking(now).into_iter();
            lacking.extend(rest.filter(|lacking| shown.insert(lacking.block)));
        }
        let whole = lacking.iter().filter(|lacking| lacking.whole);
        self.board.whole = whole.map(|lacking| lacking.block.piece).collect();
        // What is shown no more, as with every block that comes, nobody need look for.
        self.nudge |= wanted && !shown.is_subset(&before);
        self.board.shown = shown;
        self.commons.show_lacking(self.core, lacking);
    }

    /// Clears the board, and sees what was taken since the last look, given back, or did not come in time. Gives what was
    /// there.
    fn look_at_board(&mut self, now: Duration) -> BTreeSet<Block> {
        self.board.looked = now;
        self.board.left.retain(|_, until| now < *until);
        let there = self.commons.clear_lacking(self.core);
        let there: BTreeSet<Block> = there.into_iter().map(|lacking| lacking.block).collect();
        let (patience, handed) = (self.patience(), self.board.handed);
        let is_lost =
            |block: &Block, at: &mut Duration| there.contains(block) || now >= handed.max(*at) + patience;
        let lost = self.board.taken.extract_if(.., is_lost);
        let lost: Vec<Block> = lost.map(|(block, _)| block).collect();
        lost.iter().for_each(|block| self.comes_back(block));
        for block in std::mem::take(&mut self.board.shown).difference(&there) {
            self.note_taken(now, *block);
        }
        there
    }

    /// No other core fetches the block any more.
    pub(super) fn comes_back(&mut self, block: &Block) {
        if let Some(active) = self.active.get_mut(&block.piece) {
            active.blocks[block.index()].away = false;
            active.reconsider(block.index());
        }
    }

    /// Another core has taken what we have shown.
    fn note_taken(&mut self, now: Duration, block: Block) {
        let Some(active) = self.active.get_mut(&block.piece) else { return };
        if !self.board.whole.contains(&block.piece) || block.begin > 0 {
            active.blocks[block.index()].away = true;
            self.board.taken.insert(block, now);
        } else if self.may_dismiss(block.piece) {
            self.board.left.insert(block.piece, now + LATE);
            self.dismiss(block.piece);
        }
    }

    /// A peer of ours is to be asked for a block, which others are shown no more; `false` when one of them has taken it.
    pub(super) fn withdraw(&mut self, piece: PieceIndex, index: usize) -> bool {
        if self.board.shown.is_empty() {
            return true;
        }
        let block = self.layout.nth_block(piece, index);
        let free = !self.board.shown.remove(&block) || self.commons.withdraw(self.core, &block);
        if !free {
            self.note_taken(self.board.looked, block);
        }
        free
    }

    /// Gives back pieces that no peer of ours goes on with: at once if nothing of them is here, else after a while.
    fn give_up_hopeless(&mut self, now: Duration) {
        let mut hopeless = Vec::new();
        for active in self.active.values_mut() {
            let (is_empty, suspect) =
                (active.received_bytes(&self.layout) == 0, self.commons.map.is_suspect(active.piece));
            let lost = is_empty || (suspect && active.votes().is_none());
            if lost && active.is_idle() && !self.peers.any_goes_on(active.piece) {
                let patience = if is_empty { Duration::ZERO } else { LATE };
                hopeless.extend(active.stands(now, patience).then_some((active.piece, suspect)));
            }
        }
        hopeless.into_iter().for_each(|(piece, suspect)| self.restart(piece, suspect));
    }

    /// How many blocks may be shown, beside those that others are fetching for us.
    fn room_on_board(&self) -> usize {
        (MOST_ERRANDS / self.commons.cores()).max(1).saturating_sub(self.board.taken.len())
    }

    /// What others may fetch for us: blocks that nobody was asked for, those that are late, and in the endgame those that wait
    /// long; and pieces that one peer alone shall send, which is slow.
    fn lacking(&mut self, now: Duration) -> Vec<Lacking> {
        let room = self.room_on_board();
        // Our own peers come to the last ones last.
        let mut found: Vec<(u8, Reverse<Duration>, Reverse<Block>)> = Vec::new();
        let unasked = self.unasked(now);
        let is_long = self.seconds_by_all(unasked.len()) >= LEAST_HELP;
        let shown = unasked.into_iter().filter(|block| is_long || !self.has_sender(block));
        found.extend(shown.map(|block| (0, Reverse(Duration::MAX), Reverse(block))));
        for (block, wait) in self.outstanding(now) {
            found.push((if wait == Duration::MAX { 1 } else { 2 }, Reverse(wait), Reverse(block)));
        }
        found.sort();
        let blocks = found.into_iter().take(room);
        let mut lacking: Vec<Lacking> =
            blocks.map(|(_, Reverse(wait), Reverse(block))| Lacking { block, wait, whole: false }).collect();
        let whole: Vec<Lacking> = self.slow_pieces().collect();
        lacking.retain(|lacking| whole.iter().all(|whole| whole.block != lacking.block));
        lacking.extend(whole);
        lacking
    }

    /// Blocks that nobody was asked for and that may come from other cores.
    fn unasked(&self, now: Duration) -> Vec<Block> {
        let blocks = self.active.values().filter(|active| !active.is_sole()).flat_map(|active| {
            let unasked = (0..active.blocks.len()).filter(|index| active.blocks[*index].asked == 0);
            let blocks = unasked.map(|index| self.layout.nth_block(active.piece, index));
            blocks.filter(|block| self.may_come(now, active, block))
        });
        blocks.collect()
    }

    /// Seconds in which all our peers together send so many blocks.
    fn seconds_by_all(&self, blocks: usize) -> f64 {
        let pace = self.paces().fold(0.0, |sum, (_, pace)| sum + pace);
        blocks as f64 * f64::from(BLOCK_LEN) / pace
    }

    /// Blocks that our peers were asked for, all of whom are late or, in the endgame or while they hold memory that others wait for
    /// in vain, long in bringing them; and how long the first of them is.
    fn outstanding(&mut self, now: Duration) -> BTreeMap<Block, Duration> {
        let endgame = self.is_endgame() || self.is_stuck();
        let unbeaten = self.unbeaten(now, endgame, 0.0, true);
        let mut waits = BTreeMap::new();
        for (_, peer) in self.peers.iter() {
            for asked in &peer.asked {
                let active = self.active.get(&asked.block.piece).filter(|active| !active.is_sole());
                let open = active.is_some_and(|active| self.may_come(now, active, &asked.block));
                if open
                    && !unbeaten.contains(&asked.block)
                    && self.is_beaten(now, endgame, (peer, asked), 0.0)
                {
                    let wait = if self.is_late(now, peer, asked) {
                        Duration::MAX
                    } else {
                        Duration::from_secs_f64(self.lasts(now, peer, asked))
                    };
                    waits
                        .entry(asked.block)
                        .and_modify(|least: &mut Duration| *least = wait.min(*least))
                        .or_insert(wait);
                }
            }
        }
        waits
    }

    /// Whether a block may come from another core: it is not here, not being written just now, and there is memory.
    pub(super) fn may_come(&self, now: Duration, active: &ActivePiece, block: &Block) -> bool {
        let state = &active.blocks[block.index()];
        // Runs get their memory in order: who is far ahead takes that of all before it.
        let waits = ActivePiece::run_of(block.index()) >= active.opened + self.runs_ahead(now);
        let comes = state.writer.is_some_and(|writer| self.goes_on(now, writer, block));
        !(state.is_received() || state.away || active.spoiled || waits || comes)
    }

    /// Whether the peer, which is in the middle of a block, is neither late with it nor so slow that others may have it whole long
    /// before; or its bytes may be on their way home just now.
    fn goes_on(&self, now: Duration, writer: PeerSlot, block: &Block) -> bool {
        let Some(peer) = self.peers.get(writer) else { return false };
        let comes_soon = || peer.is_held_up(now) || !is_longer(peer.block_seconds(), 0.0);
        let in_time = |at: Duration| {
            now < peer.waited_since(at.max(peer.last_block), self.limit_turn()) + self.patience()
        };
        peer.lent.contains(block) || (peer.begun.is_some_and(in_time) && comes_soon())
    }

    /// A block that another core has fetched for us is here; `slabs` are free. When it is taken, put its bytes home
    /// before the next wishes are served.
    pub fn hand_in(&mut self, now: Duration, handover: &Handover, slabs: usize) -> HandIn {
        let Handover { block, from } = handover;
        self.board.handed = now;
        if self.board.taken.remove(block).is_some() {
            self.comes_back(block);
        }
        // It may have been shown again meanwhile.
        if self.board.shown.remove(block) {
            self.commons.withdraw(self.core, block);
        }
        let wanted = self.active.get(&block.piece).filter(|active| {
            let open = !active.is_sole() && active.hears(block.index(), *from);
            open && !active.blocks[block.index()].is_received() && !self.is_lent(active, block)
        });
        let wanted = wanted.is_some() && is_whole(&self.layout, block);
        let active = self.active.get_mut(&block.piece).filter(|_| wanted);
        let taken = active.and_then(|active| Some((active.open(block.index(), slabs)?, active)));
        let Some((opened, active)) = taken else {
            // With a few slabs it is only too far ahead.
            if wanted && slabs == 0 {
                self.turn_away(now);
            }
            self.note_free(slabs);
            self.totals.wasted += u64::from(block.len);
            return HandIn::Refused;
        };
        let asked = active.blocks[block.index()].asked > 0;
        active.receive(block.index(), *from);
        self.note_free(slabs - opened.len());
        if asked {
            self.cancel_elsewhere(block);
        }
        self.wish_hash(block.piece);
        if self.board.taken.len() < MOST_ERRANDS / self.commons.cores() / 2
            && self.commons.is_taken(self.core)
        {
            self.show_lacking(now);
        }
        HandIn::Taken { opened }
    }
}
