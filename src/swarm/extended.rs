//! The extension protocol (BEP 10) with one peer: what each side speaks, and facts about each.

use super::metadata::MetadataQueue;
use super::pex::Pex;
use super::speak::Speech;
use super::{DropReason, PeerSlot, Swarm, Wish};
use crate::metainfo::InfoHash;
use crate::wire::extended::{
    ExtendedHandshake, Extension, ExtensionIds, HANDSHAKE_ID, parse_dont_have, parse_upload_only,
};
use crate::wire::{Message, Reserved, at_port};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Requests that we keep of one peer.
pub(super) const REQQ: u32 = 2000;

/// What a swarm tells its peers of itself, beside its pieces.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Its info dictionary, for those who have none (BEP 9); empty: none is given.
    pub metadata: Arc<[u8]>,
    /// The TCP port we listen on.
    pub port: Option<u16>,
    /// Peers may only come from the trackers (BEP 27): no addresses are exchanged, and no DHT nodes.
    pub private: bool,
    /// Whether addresses are exchanged at all (BEP 11).
    pub pex: bool,
    /// Whether a DHT node of ours runs (BEP 5). One that only reads is a reason to say so in the handshake, too: else nobody tells it
    /// of a node.
    pub dht: bool,
    /// The UDP port on which it answers, if it does.
    pub dht_port: Option<u16>,
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            info_hash: InfoHash([0; 20]),
            metadata: Arc::new([]),
            port: None,
            private: false,
            pex: true,
            dht: false,
            dht_port: None,
        }
    }
}

impl Greeting {
    /// The extensions in our handshake.
    pub fn reserved(&self) -> Reserved {
        Reserved::ours(self.speaks_dht())
    }

    fn speaks_dht(&self) -> bool {
        self.dht && !self.private
    }

    /// Whether addresses of peers are told and heard.
    pub(super) fn speaks_pex(&self) -> bool {
        self.pex && !self.private
    }
}

/// What stands between us and one peer by the extension protocol.
#[derive(Debug)]
pub(super) struct Extended {
    /// Both sides speak it.
    on: bool,
    /// The peer runs a DHT node.
    dht: bool,
    said_hello: bool,
    said_port: bool,
    heard_hello: bool,
    heard_port: bool,
    said_upload_only: bool,
    pub(super) ids: ExtensionIds,
    /// The TCP port it listens on.
    pub(super) port: Option<u16>,
    /// It says that it does not download.
    pub(super) upload_only: bool,
    pub(super) metadata: MetadataQueue,
    pub(super) pex: Pex,
}

impl Extended {
    pub(super) fn new(theirs: Reserved) -> Self {
        Self {
            on: theirs.extended(),
            dht: theirs.dht(),
            said_hello: false,
            said_port: false,
            heard_hello: false,
            heard_port: false,
            said_upload_only: false,
            ids: ExtensionIds::default(),
            port: None,
            upload_only: false,
            metadata: MetadataQueue::default(),
            pex: Pex::default(),
        }
    }

    /// Whether both sides speak the protocol, and the peer has not said its hello.
    pub(super) fn is_to_greet(&self) -> bool {
        self.on && !self.heard_hello
    }
}

impl Speech<'_> {
    /// Says a message of an extension, by the receiver's number.
    pub(super) fn say_extended(&mut self, id: u8, payload: &[u8]) {
        self.say(Message::Extended { id, payload });
    }
}

impl Swarm {
    /// Where the peer listens, as far as is known.
    pub(super) fn listens_at(&self, slot: PeerSlot) -> Option<SocketAddr> {
        let peer = self.peers.get(slot)?;
        let said = peer.extended.port.map(|port| at_port(peer.who.addr, port));
        if peer.who.outgoing { Some(peer.who.addr) } else { said }
    }

    /// A message of an extension has come.
    pub(super) fn hear_extended(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        id: u8,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        if !peer.extended.on {
            return Err(DropReason::NotNegotiated);
        }
        if id == HANDSHAKE_ID {
            return self.hear_hello(slot, payload);
        }
        match Extension::from_id(id) {
            Some(Extension::Metadata) => self.hear_metadata(slot, payload),
            Some(Extension::Pex) => self.hear_pex(now, slot, payload),
            Some(Extension::DontHave) => match parse_dont_have(payload) {
                Some(number) => self.hear_dont_have(now, slot, number),
                None => self.offend(slot),
            },
            Some(Extension::UploadOnly) => match parse_upload_only(payload) {
                Some(upload_only) => {
                    peer.extended.upload_only = upload_only;
                    self.recheck_seed(slot)
                }
                None => self.offend(slot),
            },
            // It may speak what we do not.
            None => Ok(()),
        }
    }

    fn hear_hello(&mut self, slot: PeerSlot, payload: &[u8]) -> Result<(), DropReason> {
        let Some(hello) = ExtendedHandshake::parse(payload) else { return self.offend(slot) };
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        let voter = peer.who.addr.ip();
        let extended = &mut peer.extended;
        extended.ids.update(&hello);
        extended.port = hello.port.or(extended.port);
        let upload_only = hello.upload_only.unwrap_or(extended.upload_only);
        let takes_back = std::mem::replace(&mut extended.upload_only, upload_only) && !upload_only;
        // None at all would mean that it gives nothing; who says so has not said how many.
        peer.reqq = hello.reqq.filter(|most| *most > 0).or(peer.reqq);
        let again = std::mem::replace(&mut extended.heard_hello, true);
        if again {
            // Honest clients say a second one now and then.
            self.offend(slot)?;
        } else if let Some(ip) = hello.your_ip {
            self.outside.vote(voter, ip);
        }
        self.make_known(slot);
        self.wake(slot);
        // The first one may come before the word on what it has.
        if takes_back { self.recheck_seed(slot) } else { self.check_seed(slot) }
    }

    /// The peer has lost a piece (BEP 54).
    fn hear_dont_have(&mut self, now: Duration, slot: PeerSlot, number: u32) -> Result<(), DropReason> {
        let piece = self.layout.piece(number).ok_or(DropReason::NoSuchPiece(number))?;
        let wanted = self.wants(piece);
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.has.has(piece)) else { return Ok(()) };
        let (was_counted, had_all) = (peer.is_counted(), peer.has.is_full());
        let again = peer.conduct.loses(now, piece, self.layout.piece_count());
        peer.has.remove(piece);
        peer.lost_some = true;
        if self.settings.super_seed && peer.shown.as_ref().is_none_or(|shown| !shown.counts(piece)) {
            self.commons.spread.lose(piece);
        }
        peer.fast.unlearn(piece);
        peer.wanted -= u32::from(wanted);
        // From now on it does not count as a seed any more: see `Picker`.
        if was_counted {
            self.picker.lose(piece);
        } else {
            self.layout
                .pieces()
                .filter(|other| *other != piece)
                .for_each(|piece| self.picker.gain(piece, &mut peer.hint));
        }
        self.take_back(slot, piece);
        self.wake(slot);
        if had_all {
            self.recheck_seed(slot)?;
        }
        // What is had and lost in turn is worth nothing, and costs us something each time.
        if again { self.offend(slot) } else { Ok(()) }
    }

    /// Blocks of a piece are not awaited from the peer any more.
    fn take_back(&mut self, slot: PeerSlot, piece: crate::metainfo::PieceIndex) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let (lost, kept) =
            std::mem::take(&mut peer.asked).into_iter().partition(|asked| asked.block.piece == piece);
        peer.asked = lost;
        self.release_all(slot);
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.asked = kept;
        }
    }

    /// The peer's DHT node listens on this port (BEP 5).
    pub(super) fn hear_port(&mut self, slot: PeerSlot, port: u16) {
        let speaks = self.settings.greeting.speaks_dht();
        let Some(peer) = self.peers.get_mut(slot).filter(|_| speaks && port != 0) else { return };
        if !std::mem::replace(&mut peer.extended.heard_port, true) {
            let node = at_port(peer.who.addr, port);
            self.wishes.push_back(Wish::DhtNode(node));
        }
    }

    /// All that the extensions have to say now.
    pub(super) fn say_extensions(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) {
        // Who is shown the pieces one by one does not hear that we have them all.
        let hidden = self.peers.get(slot).is_some_and(|peer| peer.shown.is_some());
        let seeding = self.is_seeding() && !hidden;
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if peer.extended.dht && !std::mem::replace(&mut peer.extended.said_port, true) {
            let port = self.settings.greeting.dht_port.filter(|_| self.settings.greeting.speaks_dht());
            port.into_iter().for_each(|port| speech.say(Message::Port(port)));
        }
        if !peer.extended.on {
            return;
        }
        if !std::mem::replace(&mut peer.extended.said_hello, true) {
            peer.extended.said_upload_only = seeding;
            let hello = self.hello(slot, seeding);
            speech.say_extended(HANDSHAKE_ID, &hello.encode());
        } else if peer.extended.said_upload_only != seeding {
            peer.extended.said_upload_only = seeding;
            if let Some(id) = peer.extended.ids.get(Extension::UploadOnly) {
                speech.say_extended(id, &[u8::from(seeding)]);
            }
        }
        self.say_metadata(slot, speech);
        self.say_pex(now, slot, speech);
    }

    fn hello(&self, slot: PeerSlot, seeding: bool) -> ExtendedHandshake {
        let greeting = &self.settings.greeting;
        let mut hello = ExtendedHandshake {
            port: greeting.port,
            reqq: Some(REQQ),
            version: Some(concat!("seedring ", env!("CARGO_PKG_VERSION"))),
            your_ip: self.peers.get(slot).map(|peer| peer.who.addr.ip().to_canonical()),
            metadata_size: Some(greeting.metadata.len() as i64).filter(|size| *size > 0),
            upload_only: seeding.then_some(true),
            ..ExtendedHandshake::default()
        };
        let wanted = |extension: &Extension| *extension != Extension::Pex || greeting.speaks_pex();
        Extension::ALL.into_iter().filter(wanted).for_each(|extension| hello.want(extension));
        hello
    }
}
