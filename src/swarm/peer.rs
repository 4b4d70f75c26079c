//! One connected peer: what it has, what was said, what is owed.

use super::ahead::Unread;
use super::bitfield::Bitfield;
use super::conduct::Conduct;
use super::extended::Extended;
use super::fast::Fast;
use super::homes::Bidding;
use super::lag::Lag;
use super::lateness::LATE;
use super::picker::Hint;
use super::rate::{Rate, Speed};
use super::roster::Identity;
use super::scarcity::Chance;
use super::shown::Shown;
use super::tag::Tag;
use super::uploads::Uploads;
use super::window::{self, Window};
use crate::metainfo::{BLOCK_LEN, Block, PieceIndex};
use crate::wire::{PeerId, Reserved};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// What is known of a peer when its handshake is done.
#[derive(Clone, Copy, Debug)]
pub struct Introduction {
    /// Where it is. For peers that dialled us the port is not the one they listen on.
    pub addr: SocketAddr,
    /// Whether we dialled.
    pub outgoing: bool,
    /// What it calls itself.
    pub id: PeerId,
    /// The extensions it knows. Ours are those of [`Greeting::reserved`](super::Greeting::reserved).
    pub reserved: Reserved,
}

impl Introduction {
    /// What tells it from other peers.
    pub(super) fn identity(&self) -> Identity {
        (self.addr.ip().to_canonical(), self.id)
    }
}

/// A request that the peer has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) block: Block,
    pub(super) at: Duration,
}

/// One step of debt, in bytes; and how many times what it gave us a peer may have without any.
const GIFT: u64 = 128 * 1024;
const DEAREST: u64 = 2;
/// A peer may be silent for the time of so many blocks of its.
const LATE_BLOCKS: f64 = 6.0;
/// Seconds that a block may take from a peer that has not sent any yet.
const UNKNOWN_BLOCK: f64 = 1.0;
/// Who sends nothing for longer than this, now and then, beside what its way takes, sends in bursts.
const STEADY: Duration = Duration::from_millis(750);
/// No block is waited for longer than this before it counts as late.
const MOST_LATE: Duration = Duration::from_secs(30);
/// Bytes that must come in the time after which a silent peer is snubbed for it not to count as silent.
const TRICKLE: u64 = 2048;
/// Requests taken back that are remembered: more than can still be answered.
const MOST_FORGONE: usize = 2 * *window::BOUNDS.end();

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) who: Introduction,
    pub(super) tag: Tag,
    /// We dialled it where the user said.
    pub(super) given: bool,
    pub(super) since: Duration,
    pub(super) dropped: bool,
    pub(super) woken: bool,
    /// Its handshake was encrypted.
    pub(super) encrypted: bool,

    pub(super) has: Bitfield,
    /// It has once said that it lost a piece.
    pub(super) lost_some: bool,
    /// Whether a message other than a keep-alive has come: a bitfield may only come before.
    pub(super) spoke: bool,
    /// Pieces it has that we lack.
    pub(super) wanted: u32,
    /// Where the picker need not look for it.
    pub(super) hint: Hint,
    pub(super) chokes_us: bool,
    pub(super) interested: bool,

    pub(super) unchoked: bool,
    pub(super) unchoked_since: Duration,
    /// When it was choked last, if it ever had a slot.
    pub(super) choked_at: Option<Duration>,
    /// The piece that it is being sent, and how many bytes of it have been.
    pub(super) serving: Option<(PieceIndex, u64)>,
    /// It is to be choked when it has that piece, or at this time.
    pub(super) leaves: Option<Duration>,
    /// Pieces that we have suggested to it, or that it was the first to ask for, and that nobody is known to have; those that it
    /// alone has, from us; those that nobody had when it was sent them, until it is seen to pass one on; and those that it was
    /// sent of late: see `spreading`.
    pub(super) suggestions: Vec<PieceIndex>,
    pub(super) held: u32,
    pub(super) taken: u32,
    pub(super) passes_on: bool,
    pub(super) served: VecDeque<PieceIndex>,
    /// How often what it asks for was put off for others: see `precedence`.
    pub(super) put_off: u8,
    /// It has asked for nothing for a while although it has a slot.
    pub(super) idles: bool,
    /// When it last asked for a block or was sent one.
    pub(super) last_asked: Duration,
    /// It was chosen to have an upload slot, which another has to give back first.
    pub(super) owed: bool,
    /// What it was shown, when we super-seed.
    pub(super) shown: Option<Box<Shown>>,
    pub(super) said_bitfield: bool,
    pub(super) said_unchoked: bool,
    /// Since it last heard of its slot, what it had asked for was forgotten: that it cannot tell by itself.
    pub(super) unsaid_choke: bool,
    pub(super) said_interested: bool,
    /// How much of the log of pieces it has been told.
    pub(super) told: u32,
    /// How many of the pieces that were lost it has been told, or has never heard of.
    pub(super) told_lost: usize,
    /// When it was last told of some.
    pub(super) told_lost_at: Option<Duration>,
    pub(super) cancels: Vec<Block>,

    pub(super) current: Option<PieceIndex>,
    pub(super) asked: VecDeque<Asked>,
    /// Where in `asked` the last answer was, as far as nothing before it has been taken back since.
    pub(super) answered: usize,
    /// Requests taken back whose blocks may come all the same, the latest last.
    pub(super) forgone: VecDeque<Block>,
    /// How many requests it is good for.
    pub(super) requests: Window,
    pub(super) snubbed: bool,
    pub(super) chance: Chance,
    /// When it was asked for something last.
    pub(super) tried: Duration,
    /// When it was last looked in vain, for want of memory, for something that it could be asked for instead.
    pub(super) searched: Option<Duration>,
    /// When it last found nothing to do at the playhead, and the piece it was going on with.
    pub(super) looked: Option<(Duration, Option<PieceIndex>)>,
    pub(super) lent: Vec<Block>,
    /// Since when it has been in the middle of a block whose bytes go home.
    pub(super) begun: Option<Duration>,
    /// Why it sends the block that it is in the middle of.
    pub(super) bidding: Bidding,
    pub(super) last_block: Duration,
    /// The longest time of late that passed between two blocks of it.
    pub(super) pause: Duration,
    /// Bytes of the block under way that are here and counted.
    arrived: u32,
    /// Bytes of blocks under way that have come since that was looked at last, and when they last were enough.
    trickle: u64,
    pub(super) trickled: Duration,
    pub(super) unread: Unread,
    pub(super) lag: Lag,

    /// Most requests that it says it keeps (BEP 10).
    pub(super) reqq: Option<u32>,
    pub(super) fast: Fast,
    pub(super) extended: Extended,

    pub(super) uploads: Uploads,
    /// Bytes that were taken out of that queue and have not been sent yet.
    pub(super) leaving: u64,
    pub(super) conduct: Conduct,
    pub(super) down: Rate,
    pub(super) up: Rate,
    /// How fast it is when it is asked for something.
    pub(super) speed: Speed,
    /// See [`Peer::measure_trade`]; when that was last, and what had come then and in what rate since the time before.
    pub(super) trade: u64,
    traded: (Duration, u64, u64),
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    pub(super) last_heard: Duration,
    /// When payload last came from it or went to it.
    pub(super) last_moved: Duration,
    /// When one of us last had something for the other.
    pub(super) last_useful: Duration,
    pub(super) last_said: Duration,
}

impl Peer {
    /// Whether the picker counts each piece of it: it is no seed. Who has once lost a piece is none for good, as far as that goes: to
    /// come and go among the seeds costs a look at all pieces each time.
    pub(super) fn is_counted(&self) -> bool {
        self.lost_some || !self.has.is_full()
    }

    /// Most requests that it takes at once, as far as it has said, and most that we would have open.
    pub(super) fn takes(&self) -> usize {
        self.reqq.map_or(window::DEFAULT_MOST, |most| most as usize).min(*window::BOUNDS.end())
    }

    pub(super) fn new(now: Duration, who: Introduction, tag: Tag, pieces: u32, told: u32) -> Self {
        Self {
            who,
            tag,
            given: false,
            since: now,
            dropped: false,
            woken: false,
            encrypted: false,
            has: Bitfield::new(pieces),
            lost_some: false,
            spoke: false,
            wanted: 0,
            hint: Hint::default(),
            chokes_us: true,
            interested: false,
            unchoked: false,
            unchoked_since: now,
            choked_at: None,
            serving: None,
            leaves: None,
            suggestions: Vec::new(),
            held: 0,
            taken: 0,
            passes_on: false,
            served: VecDeque::new(),
            put_off: 0,
            idles: false,
            last_asked: now,
            owed: false,
            shown: None,
            said_bitfield: false,
            said_unchoked: false,
            unsaid_choke: false,
            said_interested: false,
            told,
            told_lost: 0,
            told_lost_at: None,
            cancels: Vec::new(),
            current: None,
            asked: VecDeque::new(),
            answered: 0,
            forgone: VecDeque::new(),
            requests: Window::default(),
            snubbed: false,
            chance: Chance::default(),
            tried: now,
            searched: None,
            looked: None,
            lent: Vec::new(),
            begun: None,
            bidding: Bidding::default(),
            last_block: now,
            pause: Duration::ZERO,
            arrived: 0,
            trickle: 0,
            trickled: now,
            unread: Unread::new(now),
            lag: Lag::default(),
            reqq: None,
            fast: Fast::new(who.reserved),
            extended: Extended::new(who.reserved),
            uploads: Uploads::default(),
            leaving: 0,
            conduct: Conduct::new(now),
            down: Rate::default(),
            up: Rate::default(),
            speed: Speed::default(),
            trade: 0,
            traded: (now, 0, 0),
            downloaded: 0,
            uploaded: 0,
            last_heard: now,
            last_moved: now,
            last_useful: now,
            last_said: now,
        }
    }

    /// After what time without a block those it was asked for are late: a slow peer's blocks come seldom, and those of one that
    /// has sent none may take as long as blocks do of late.
    pub(super) fn late(&self, usual: Duration) -> Duration {
        let blocks =
            self.pace().map(|rate| Duration::from_secs_f64(LATE_BLOCKS * f64::from(BLOCK_LEN) / rate));
        blocks.unwrap_or_default().max(LATE + usual * 2).min(MOST_LATE)
    }

    /// Bytes a second that it has sent us of late, for the choker. BEP 3: a rolling average over 20 seconds. (`down` follows
    /// faster: of a peer that sends a block in a second it says little.)
    pub(super) fn measure_trade(&mut self, now: Duration) {
        let (at, downloaded, rate) = self.traded;
        let time = now.saturating_sub(at.max(self.since)).as_millis().max(1);
        let fresh = u64::try_from(u128::from(self.downloaded - downloaded) * 1000 / time).unwrap_or(u64::MAX);
        self.trade = fresh / 2 + rate / 2;
        self.traded = (now, self.downloaded, fresh);
    }

    /// Requests to keep open.
    pub(super) fn window(&self) -> usize {
        if self.snubbed { 1 } else { self.own_window().min(self.most_behind().unwrap_or(usize::MAX)) }
    }

    /// Requests that it is worth, and takes.
    pub(super) fn own_window(&self) -> usize {
        self.requests.size(self.down.get()).min(self.takes())
    }

    /// Whether what it was asked for has come before it could answer another request. (Who sends in bursts is not kept sending by more.)
    pub(super) fn runs_dry(&self) -> bool {
        let is_steady = self.pause <= STEADY + self.requests.delay() * 2;
        !self.snubbed && is_steady && self.pace().is_some() && !self.keeps_sending()
    }

    /// Whether it was asked for as much as it sends until it could answer another request.
    pub(super) fn keeps_sending(&self) -> bool {
        self.pace().is_some_and(|rate| {
            let least = self.requests.least(rate as u64);
            // When a quarter of its window is free there are new ones.
            let least = self.most_behind().map_or(least, |most| least.min(most * 3 / 4));
            self.asked.len() >= least.max(1)
        })
    }

    /// A request is taken back; its block may come all the same.
    pub(super) fn forgo(&mut self, block: Block) {
        if self.forgone.len() == MOST_FORGONE {
            self.forgone.pop_front();
        }
        self.forgone.push_back(block);
    }

    /// Whether the block may come although nothing was asked, for it was. Once.
    pub(super) fn forgave(&mut self, block: &Block) -> bool {
        let at = self.forgone.iter().position(|forgone| forgone == block);
        at.is_some_and(|at| self.forgone.remove(at).is_some())
    }

    /// Brings its rates up to date.
    pub(super) fn measure(&mut self, now: Duration) {
        self.pause = self.pause * 63 / 64;
        self.down.tick(now);
        self.up.tick(now);
        // How fast it is shows when it sends again.
        if !self.pauses(now) || self.speed.has_fresh() {
            self.speed.tick(now, self.asked.front().map(|asked| asked.at));
        }
    }

    /// Whether it has sent nothing for no longer than it usually does: it may be as fast as before.
    pub(super) fn pauses(&self, now: Duration) -> bool {
        now <= self.last_block + self.usual_pause()
    }

    /// How long it usually sends nothing at the most, and half as long again.
    pub(super) fn usual_pause(&self) -> Duration {
        self.pause * 3 / 2
    }

    /// So many bytes have come of what it was asked for then.
    fn count_bytes(&mut self, now: Duration, bytes: u64, asked: Option<Duration>) {
        self.down.add(bytes);
        self.speed.came(now, bytes, asked);
    }

    /// A block has come, which was asked for then.
    pub(super) fn count_block(&mut self, now: Duration, len: u32, asked: Option<Duration>) {
        let arrived = std::mem::take(&mut self.arrived);
        self.count_bytes(now, len.saturating_sub(arrived).into(), asked);
        self.downloaded += u64::from(len);
        let since = asked.map_or(now, |asked| asked.max(self.last_block));
        self.pause = self.pause.max(now.saturating_sub(since));
        self.last_block = now;
        self.last_moved = now;
        self.snubbed = false;
        self.unread.block_came(len);
        self.requests.block_came(now, asked);
        self.fast.block_came();
        self.conduct.block_came();
    }

    /// The first `filled` bytes are here of a block that is not whole yet. They count for its rate: of a block that takes seconds
    /// nothing else tells how fast it comes. And one whose block takes longer than it may be silent is slow, not silent.
    pub(super) fn count_part(&mut self, now: Duration, filled: u32) {
        let fresh = u64::from(filled.saturating_sub(std::mem::replace(&mut self.arrived, filled)));
        self.count_bytes(now, fresh, self.asked.front().map(|asked| asked.at));
        self.trickle += fresh;
        if self.trickle >= TRICKLE {
            (self.trickle, self.trickled, self.last_heard) = (0, now, now);
        }
    }

    /// Bytes of the block under way, of that length, that are not counted yet.
    pub(super) fn lacks_of(&self, len: u32) -> u32 {
        len.saturating_sub(self.arrived)
    }

    /// Whether a part of a block is here.
    pub(super) fn is_amid_block(&self) -> bool {
        self.arrived > 0
    }

    /// Payload has been sent to it.
    pub(super) fn count_sent(&mut self, now: Duration, bytes: u64) {
        if bytes > 0 {
            (self.last_moved, self.last_asked) = (now, now);
        }
        self.leaving = self.leaving.saturating_sub(bytes);
        self.up.add(bytes);
        self.uploaded += bytes;
    }

    /// Whether it would take more requests.
    pub(super) fn is_hungry(&self) -> bool {
        let open = !self.chokes_us || self.fast.open().is_some();
        let willing = open && self.fast.is_patient();
        !self.dropped && willing && self.wanted > 0 && self.asked.len() < self.window()
    }

    /// The pieces that it sends when it is asked now.
    pub(super) fn offered(&self) -> Option<&Bitfield> {
        if self.chokes_us { self.fast.open() } else { Some(&self.has) }
    }

    /// Whether it sends the piece when it is asked now.
    pub(super) fn offers(&self, piece: PieceIndex) -> bool {
        self.offered().is_some_and(|pieces| pieces.has(piece))
    }

    /// Whether it takes nothing: it has everything, or says that it does not download (BEP 21).
    pub(super) fn gives_only(&self) -> bool {
        self.has.is_full() || self.extended.upload_only
    }

    /// Whether more may be expected of it.
    pub(super) fn gives(&self) -> bool {
        !self.dropped && !self.chokes_us && !self.snubbed && self.wanted > 0
    }

    /// Bytes a second to expect of it, when it has sent something.
    pub(super) fn pace(&self) -> Option<f64> {
        Some(self.down.get().max(self.speed.get())).filter(|rate| *rate > 0).map(|rate| rate as f64)
    }

    /// How much more it has had of us than it gave back, in steps: those who owe least come first when not all can be served
    /// and rates do not decide. (Who takes and never gives owes ever more.)
    pub(super) fn debt(&self) -> u32 {
        u32::try_from(self.owes() / GIFT).unwrap_or(u32::MAX)
    }

    fn owes(&self) -> u64 {
        self.uploaded.saturating_sub(self.downloaded.saturating_mul(DEAREST))
    }

    /// Whether it has had no more than what it takes to begin to trade: a whole piece, and what else it asked for until then.
    pub(super) fn begins(&self, piece_length: u32) -> bool {
        self.owes() < GIFT.max(2 * u64::from(piece_length))
    }

    /// Whether it has nothing yet and is likely to have a piece's worth of us within so long.
    pub(super) fn nears_first(&self, piece_length: u32, time: Duration) -> bool {
        let lacks = u64::from(piece_length).saturating_sub(self.uploaded);
        // Of a piece that it is sent in parts out of order, or does not tell of, a block at least is to come.
        let lacks = lacks.max(BLOCK_LEN.into());
        self.has.count() == 0 && self.up.get().saturating_mul(time.as_secs()) >= lacks
    }

    /// Whether it has given us so much more than it had that it is we who owe. A few blocks are no merit yet: anybody can send
    /// some, good or bad.
    pub(super) fn is_creditor(&self) -> bool {
        self.downloaded >= self.uploaded.saturating_mul(DEAREST).saturating_add(GIFT / 2)
    }

    /// What it was asked for, in the order in which it is likely to come: on from the last answer, then what was passed over.
    /// Some peers answer in order but for a block or two that take long to read.
    pub(super) fn expected(&self) -> impl Iterator<Item = Block> {
        let at = self.answered.min(self.asked.len());
        self.asked.range(at..).chain(self.asked.range(..at)).map(|asked| asked.block)
    }

    /// Seconds until all it was asked for is here, at its rate.
    pub(super) fn backlog_seconds(&self) -> f64 {
        // Nearly all are as long as the longer one of these. To sum them up for each that is open, as in the endgame, takes long.
        let ends = [self.asked.front(), self.asked.back()].into_iter().flatten();
        let len = ends.map(|asked| asked.block.len).max().unwrap_or(0);
        self.asked.len() as f64 * f64::from(len) / self.pace().unwrap_or(1.0)
    }

    /// Seconds until a block that it was asked for is here, at its rate.
    pub(super) fn seconds_until(&self, block: &Block) -> f64 {
        let before = self.expected().take_while(|expected| expected != block).count();
        (before + 1) as f64 * self.block_seconds()
    }

    /// Seconds that one block of it takes; a guess when it has not sent any.
    pub(super) fn block_seconds(&self) -> f64 {
        self.pace().map_or(UNKNOWN_BLOCK, |rate| f64::from(BLOCK_LEN) / rate)
    }
}
