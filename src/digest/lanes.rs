//! Many streams in the lanes of one kernel, however long each is.

use super::state::Block;
use super::stream::Stream;

/// Chaining values, `W` words each, of `N` streams: turned so that the same word of all streams lies side by side.
pub(super) type LaneWords<const W: usize, const N: usize> = [[u32; N]; W];

/// A compression function of `N` streams at once.
pub(super) trait Kernel<const W: usize, const N: usize>: Copy {
    /// Compresses all blocks of each lane. The lanes have the same number of blocks.
    fn compress(self, words: &mut LaneWords<W, N>, lanes: &[&[Block]; N]);
}

/// Compresses streams `N` at a time: the lane of a stream that is through is given to the next. When fewer than `enough`
/// are left, hands back what remains of them.
pub(super) fn side_by_side<'a, const W: usize, const N: usize>(
    kernel: impl Kernel<W, N>,
    enough: usize,
    mut streams: impl Iterator<Item = Stream<'a, W>>,
) -> impl Iterator<Item = Stream<'a, W>> {
    let mut words = [[0; N]; W];
    let mut lanes: [Option<Stream<'a, W>>; N] = [const { None }; N];
    loop {
        for (lane, place) in lanes.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            *place = streams.next();
            if let Some(stream) = place {
                set_column(&mut words, lane, stream.words());
            }
        }
        let busy = || lanes.iter().flatten();
        let shortest = busy().map(Stream::blocks).min_by_key(|blocks| blocks.len());
        let Some(shortest) = shortest.filter(|_| busy().count() >= enough) else { break };
        let steps = shortest.len();
        // An idle lane computes what nobody reads, from bytes that are at hand.
        let runs =
            std::array::from_fn(|lane| lanes[lane].as_ref().map_or(shortest, |s| &s.blocks()[..steps]));
        kernel.compress(&mut words, &runs);
        for (lane, place) in lanes.iter_mut().enumerate() {
            if let Some(stream) = place
                && !stream.pass(steps)
            {
                stream.set_words(column(&words, lane));
                *place = None;
            }
        }
    }
    for (lane, stream) in lanes.iter_mut().enumerate() {
        if let Some(stream) = stream {
            stream.set_words(column(&words, lane));
        }
    }
    lanes.into_iter().flatten()
}

fn set_column<const W: usize, const N: usize>(words: &mut LaneWords<W, N>, lane: usize, stream: [u32; W]) {
    for (row, word) in words.iter_mut().zip(stream) {
        row[lane] = word;
    }
}

fn column<const W: usize, const N: usize>(words: &LaneWords<W, N>, lane: usize) -> [u32; W] {
    words.map(|row| row[lane])
}
