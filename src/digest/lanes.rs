//! Many streams in the lanes of one kernel, however long each is.

use super::state::{Block, Stream, Words};

/// Chaining values of `N` streams, turned so that the same word of all streams lies side by side.
pub(super) type LaneWords<const N: usize> = [[u32; N]; 5];

/// A compression function of `N` streams at once.
pub(super) trait Kernel<const N: usize>: Copy {
    /// With fewer streams than this, narrower engines are faster (measured by `benches/digest.rs` on a processor that
    /// has the SHA instructions).
    const ENOUGH: usize;

    /// Compresses all blocks of each lane. The lanes have the same number of blocks.
    fn compress(self, words: &mut LaneWords<N>, lanes: &[&[Block]; N]);
}

/// Compresses streams `N` at a time: the lane of a stream that is through is given to the next. When too few are left
/// to fill the lanes, hands back what remains of them.
pub(super) fn side_by_side<'a, const N: usize, K: Kernel<N>>(
    kernel: K,
    mut streams: impl Iterator<Item = Stream<'a>>,
) -> impl Iterator<Item = Stream<'a>> {
    let mut words = [[0; N]; 5];
    let mut lanes: [Option<Stream<'a>>; N] = [const { None }; N];
    loop {
        for (lane, place) in lanes.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            *place = streams.next();
            if let Some(stream) = place {
                set_column(&mut words, lane, stream.words);
            }
        }
        let busy = || lanes.iter().flatten();
        let shortest = busy().map(|stream| stream.blocks).min_by_key(|blocks| blocks.len());
        let Some(shortest) = shortest.filter(|_| busy().count() >= K::ENOUGH) else { break };
        let steps = shortest.len();
        // An idle lane computes what nobody reads, from bytes that are at hand.
        let runs = std::array::from_fn(|lane| lanes[lane].as_ref().map_or(shortest, |s| &s.blocks[..steps]));
        kernel.compress(&mut words, &runs);
        for (lane, place) in lanes.iter_mut().enumerate() {
            if let Some(stream) = place {
                stream.blocks = &stream.blocks[steps..];
                if stream.blocks.is_empty() {
                    *stream.words = column(&words, lane);
                    *place = None;
                }
            }
        }
    }
    for (lane, stream) in lanes.iter_mut().enumerate() {
        if let Some(stream) = stream {
            *stream.words = column(&words, lane);
        }
    }
    lanes.into_iter().flatten()
}

fn set_column<const N: usize>(words: &mut LaneWords<N>, lane: usize, stream: &Words) {
    for (row, word) in words.iter_mut().zip(stream) {
        row[lane] = *word;
    }
}

fn column<const N: usize>(words: &LaneWords<N>, lane: usize) -> Words {
    words.map(|row| row[lane])
}
