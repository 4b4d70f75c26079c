//! A piece that came out wrong again after a vote, because liars agree, is asked of those who agree with each other.
//!
//! Two who have sent different bytes for a block quarrel: one of them lies. Honest peers never quarrel with each other, so of peers
//! none of whom quarrels with another, a camp, all may be honest. The greatest part of our peers that is found to be one sends
//! the piece, at the rate of all of them; if it comes out wrong, there are new quarrels, or the others are the next camp. The right
//! piece then names all liars at once. Where there is no other camp, or where it would take much too long, one peer alone sends the
//! piece (`alone`).

use super::active::Senders;
use super::{PeerSlot, Swarm, Tag};
use crate::metainfo::PieceIndex;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// So many camps are asked for a piece.
const MOST_CAMPS: usize = 4;
/// A camp must send at least this part of what the one does who would send the piece alone.
const LEAST_SHARE: f64 = 0.5;

/// Pairs who have sent different bytes for the same block, both ways round.
pub(super) type Quarrels = BTreeSet<(Tag, Tag)>;

/// Whom not to ask for a piece, so that those who are left of some peers agree with each other: who quarrels with most goes first,
/// but of those to be spared only when nobody else quarrels.
fn barred(quarrels: &Quarrels, peers: &[Tag], spared: &[Tag]) -> Box<[Tag]> {
    let mut camp: BTreeSet<Tag> = peers.iter().copied().collect();
    let mut out = BTreeSet::new();
    loop {
        let enemies = |who: Tag| camp.iter().filter(|other| quarrels.contains(&(who, **other))).count();
        let quarrel = camp.iter().map(|who| (!spared.contains(who), enemies(*who), Reverse(*who)));
        let Some((.., Reverse(worst))) = quarrel.filter(|(_, enemies, _)| *enemies > 0).max() else { break };
        camp.remove(&worst);
        out.insert(worst);
    }
    out.extend(quarrels.iter().filter(|(_, other)| camp.contains(other)).map(|(who, _)| *who));
    out.into_iter().collect()
}

impl Swarm {
    /// Who is to send a piece that is begun by this peer.
    pub(super) fn senders_for(&self, slot: PeerSlot, piece: PieceIndex) -> Senders {
        if !self.commons.map.is_suspect(piece) {
            return Senders::All;
        }
        if let Some(votes) = self.votes_for(slot, piece) {
            return Senders::Voters(Box::new(votes));
        }
        self.others_than_camp(slot, piece).map_or(Senders::Owner, Senders::AllBut)
    }

    /// Whom not to ask for a piece, so that the next camp sends it, if there is one.
    fn others_than_camp(&self, slot: PeerSlot, piece: PieceIndex) -> Option<Box<[Tag]>> {
        let (tried, quarrels) = {
            let evidence = self.commons.evidence();
            let tried = evidence.camps(piece)?.to_vec();
            (tried.len() < MOST_CAMPS).then(|| (tried, evidence.quarrels()))?
        };
        let givers =
            self.peers.iter().map(|(_, peer)| peer).filter(|peer| peer.gives() && peer.offers(piece));
        let givers: Vec<(Tag, f64)> = givers.map(|peer| (peer.tag, peer.pace().unwrap_or(0.0))).collect();
        let tags: Vec<Tag> = givers.iter().map(|(tag, _)| *tag).collect();
        let least = LEAST_SHARE * self.peers.get(slot)?.pace().unwrap_or(0.0);
        let last = tried.last().map_or(&[][..], |last| &last[..]);
        let camps = [&[][..], last].map(|spared| barred(&quarrels, &tags, spared));
        let next = camps.into_iter().find(|barred| {
            let camp = givers.iter().filter(|(tag, _)| !barred.contains(tag));
            let pace = camp.fold(0.0, |sum, (_, pace)| sum + pace);
            !barred.is_empty() && !tried.contains(barred) && pace > 0.0 && pace >= least
        })?;
        self.commons.evidence().note_camp(piece, next.clone());
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags<const N: usize>(numbers: [u64; N]) -> Vec<Tag> {
        numbers.map(Tag::numbered).to_vec()
    }

    fn quarrels(pairs: &[(u64, u64)]) -> Quarrels {
        let both = pairs.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        both.map(|(a, b)| (Tag::numbered(a), Tag::numbered(b))).collect()
    }

    #[test]
    fn the_most_who_agree_are_asked_and_then_the_others() {
        // 1 and 2 agree, and quarrel with each of the others; of 7 nobody knows anything; 9 has left.
        let quarrels = quarrels(&[(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5), (9, 4), (9, 1)]);
        let peers = tags([1, 2, 3, 4, 5, 7]);
        let first = barred(&quarrels, &peers, &[]);
        assert_eq!(*first, tags([1, 2, 9]));
        assert_eq!(*barred(&quarrels, &peers, &first), tags([3, 4, 5, 9]));
    }

    #[test]
    fn who_agree_with_each_other_are_all_asked() {
        assert!(barred(&Quarrels::new(), &tags([1, 2, 3]), &[]).is_empty());
    }
}
