//! How many of a peer's next blocks can be foreseen.
//!
//! Most peers answer in the order they were asked, with little in between: then one receive can lay out many blocks, each where
//! it belongs. One wrong guess puts all that follows it into wrong places. So after one, only what has begun is laid out, and
//! with every few blocks in order one more: where the order is lost often, little is laid out in vain.
//!
//! (To lay out nothing for such peers is not the answer: a receive for each block costs more than to copy it.)

/// Blocks in order for each that is laid out before it begins.
const EVIDENCE: u32 = 4;
/// Messages in a row, no block among them, after which they are no longer taken one by one.
const CHATTER: u32 = 64;

/// What was seen of a peer's answers.
#[derive(Debug)]
pub(super) struct Guess {
    /// Blocks that came as expected since the last that did not. A new peer is believed.
    in_order: u32,
    /// Messages since the last block.
    chatter: u32,
}

impl Default for Guess {
    fn default() -> Self {
        Self { in_order: u32::MAX, chatter: 0 }
    }
}

impl Guess {
    /// Blocks to lay out that have not begun, at most `most`.
    pub(super) fn ahead(&self, most: usize) -> usize {
        most.min((self.in_order / EVIDENCE) as usize)
    }

    /// Whether the peer says so much else that it is taken as it comes.
    pub(super) fn is_chatter(&self) -> bool {
        self.chatter > CHATTER
    }

    /// Blocks were laid out, and something else came.
    pub(super) fn missed(&mut self) {
        self.in_order = 0;
    }

    /// A block has begun, the next that was expected or not.
    pub(super) fn begun(&mut self, expected: bool) {
        self.chatter = 0;
        self.in_order = if expected { self.in_order.saturating_add(1) } else { 0 };
    }

    /// The peer has said something else.
    pub(super) fn heard(&mut self) {
        self.chatter = self.chatter.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 31;

    /// Of so many blocks, how many had their places before they began, and how many of those the wrong ones.
    fn run(blocks: u32, mut in_order: impl FnMut(u32) -> bool) -> (usize, usize) {
        let (mut guess, mut laid, mut ahead, mut wrong) = (Guess::default(), 0, 0, 0);
        for block in 0..blocks {
            if laid == 0 {
                laid = guess.ahead(MOST);
                ahead += laid;
            }
            let expected = in_order(block);
            if laid > 0 && !expected {
                wrong += std::mem::take(&mut laid);
                guess.missed();
            }
            guess.begun(expected);
            laid = laid.saturating_sub(1);
        }
        (ahead, wrong)
    }

    #[test]
    fn who_keeps_the_order_is_foreseen() {
        assert_eq!(run(31_000, |_| true), (31_000, 0));
    }

    #[test]
    fn who_never_does_is_believed_once() {
        assert_eq!(run(31_000, |block| block % 4 != 0), (MOST, MOST));
    }

    #[test]
    fn who_sometimes_does_not_makes_little_be_laid_out_in_vain() {
        let (ahead, wrong) = run(100_000, |block| block % 50 != 49);
        assert!(ahead > 60_000 && wrong < ahead / 6, "{ahead} {wrong}");
        let (ahead, wrong) = run(100_000, |block| block % 1000 != 999);
        assert!(ahead > 97_000 && wrong < 3_200, "{ahead} {wrong}");
    }

    #[test]
    fn a_flood_of_messages_is_not_taken_one_by_one() {
        let mut guess = Guess::default();
        (0..CHATTER).for_each(|_| guess.heard());
        assert!(!guess.is_chatter());
        guess.heard();
        assert!(guess.is_chatter());
        guess.begun(true);
        assert!(!guess.is_chatter());
    }
}
