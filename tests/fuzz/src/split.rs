//! Where an input is cut into pieces: chosen by the input itself, so that a target's input is
//! nothing but what it is about.

/// A source of numbers that are the same for the same input.
pub struct Choice(u64);

impl Choice {
    /// FNV-1a of the input (Fowler, Noll, Vo).
    pub fn of(input: &[u8]) -> Choice {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Choice(input.iter().fold(0xcbf2_9ce4_8422_2325, step) | 1)
    }

    /// A number below `bound` (xorshift, Marsaglia 2003).
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// Ends of growing prefixes of the input, the whole last: some one byte apart, some far.
pub fn prefixes(input: &[u8]) -> Vec<usize> {
    let mut choice = Choice::of(input);
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < input.len() {
        let most = [1, 2, 8, 64][choice.below(4)];
        at = (at + 1 + choice.below(most)).min(input.len());
        ends.push(at);
    }
    if ends.is_empty() {
        ends.push(0);
    }
    ends
}
