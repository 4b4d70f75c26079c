//! What a peer of a session says.

use super::{BLOCK, Scene};
use seedring::wire::extended::{
    ExtendedHandshake, Extension, MetadataMessage, PexFlags, PexMessage, encode_dont_have,
};
use seedring::wire::{Message, bitfield_len};
use std::net::SocketAddr;

impl Scene {
    /// The peer sends a message whose numbers lie around those that matter.
    pub(super) fn say_to_us(&mut self, at: usize, kind: u8, [piece, block, len]: [u8; 3]) {
        if !self.connections[at].reader.at_boundary() {
            return;
        }
        let pieces = self.layout.piece_count();
        let index = match piece {
            250.. => [u32::MAX, 1 << 31, pieces, pieces + 1, pieces - 1, 0][usize::from(piece) - 250],
            _ => u32::from(piece) % pieces,
        };
        let begin = match block {
            250.. => {
                [u32::MAX, 1 << 31, self.layout.piece_length(), 1, BLOCK - 1, 0][usize::from(block) - 250]
            }
            _ => u32::from(block) % 4 * BLOCK,
        };
        let whole = self.layout.piece(index).map(|piece| self.layout.piece_len(piece));
        let rest = whole.unwrap_or(1).saturating_sub(begin).min(BLOCK);
        let len = match len {
            250.. => [u32::MAX, 1 << 31, 0, 1, BLOCK + 1, rest + 1][usize::from(len) - 250],
            _ => rest,
        };
        let bits = vec![block; bitfield_len(pieces)];
        let message = match kind % 25 {
            0 => Message::Choke,
            1 => Message::Unchoke,
            2 => Message::Interested,
            3 => Message::NotInterested,
            4 => Message::Have(index),
            5 => Message::Bitfield(&bits),
            6 | 7 => Message::Request { index, begin, len },
            8 => Message::Cancel { index, begin, len },
            9 => return self.has_all(at),
            10 => Message::KeepAlive,
            11 => Message::Port(len as u16),
            13 => Message::AllowedFast(index),
            14 => Message::Suggest(index),
            15 => Message::HaveAll,
            16 => return self.reject(at, [index, begin, len]),
            17 => Message::HaveNone,
            23 => Message::Reject { index, begin, len },
            24 => Message::Unknown { id: piece.max(22), len: 0 },
            _ => return self.say_extended(at, kind % 25, [index, begin, len]),
        };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.receive(at, &bytes);
    }

    /// The peer rejects one of the requests that it has not answered; without any, something else.
    fn reject(&mut self, at: usize, [index, begin, len]: [u32; 3]) {
        let asked = self.connections[at].asked.get(index as usize);
        let message = match asked.map(|block| [block.piece.get(), block.begin, block.len]) {
            Some([index, begin, len]) => Message::Reject { index, begin, len },
            None => Message::Reject { index, begin, len },
        };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.receive(at, &bytes);
    }

    /// The peer says something of an extension.
    fn say_extended(&mut self, at: usize, kind: u8, [one, two, three]: [u32; 3]) {
        let addr =
            |number: u32| SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], number as u16));
        let (id, payload) = match kind {
            12 => {
                let mut hello = ExtendedHandshake {
                    reqq: Some(two),
                    port: Some(three as u16).filter(|port| *port != 0),
                    metadata_size: Some(i64::from(one) << 20),
                    upload_only: Some(one % 4 == 3),
                    your_ip: Some([10, 0, 0, one as u8].into()),
                    ..ExtendedHandshake::default()
                };
                let names = Extension::ALL.into_iter().enumerate();
                names.for_each(|(n, extension)| {
                    hello.ids[extension as usize] = Some((one as u8).wrapping_add(n as u8))
                });
                (0, hello.encode())
            }
            18 => (Extension::Metadata.id(), MetadataMessage::Request { block: one }.encode()),
            19 => {
                let message =
                    MetadataMessage::Data { block: one, total_size: Some(two.into()), bytes: &[1; 50] };
                (Extension::Metadata.id(), message.encode())
            }
            20 => {
                let peers = one..one.saturating_add(two % 120);
                let added = peers.clone().map(|number| (addr(number), PexFlags(three as u8))).collect();
                let dropped = peers.map(|number| addr(number / 2)).collect();
                (Extension::Pex.id(), PexMessage { added, dropped, cut: false }.encode())
            }
            21 => (Extension::DontHave.id(), encode_dont_have(one).to_vec()),
            _ => (two as u8, vec![three as u8; one as usize % 40]),
        };
        let mut bytes = Vec::new();
        Message::Extended { id, payload: &payload }.encode(&mut bytes);
        self.receive(at, &bytes);
    }

    /// The peer says that it has everything.
    fn has_all(&mut self, at: usize) {
        let pieces = self.layout.piece_count();
        let mut bits = vec![0xff; bitfield_len(pieces)];
        let spare = bits.len() as u32 * 8 - pieces;
        bits.last_mut().into_iter().for_each(|last| *last = 0xff << spare);
        let mut bytes = Vec::new();
        Message::Bitfield(&bits).encode(&mut bytes);
        self.receive(at, &bytes);
    }
}
