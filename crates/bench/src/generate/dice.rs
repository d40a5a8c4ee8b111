//! Deterministic randomness: the same question about the same row always has the same answer.

/// Answers questions about rows of one seed; a question is a number of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice {
    seed: u64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed: scramble(seed ^ 0x5eed_0f0f_a11d_1ce5) }
    }

    /// 64 random bits for row `index`.
    pub(super) fn bits(self, question: u64, index: u64) -> u64 {
        scramble(scramble(index.wrapping_add(self.seed)) ^ question.wrapping_mul(0xa076_1d64_78bd_642f))
    }

    /// One of `0..n`, uniformly.
    pub(super) fn below(self, question: u64, index: u64, n: u64) -> u64 {
        share(self.bits(question, index), n)
    }

    /// True for `per_mille` of the rows.
    pub(super) fn happens(self, question: u64, index: u64, per_mille: u64) -> bool {
        self.below(question, index, 1000) < per_mille
    }
}

/// Maps all bits evenly on `0..n`.
pub(super) fn share(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

/// A bijection of 64 bits in which every bit depends on all others (the finalizer of splitmix64).
fn scramble(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Picks items by weight with one look-up.
#[derive(Debug)]
pub(super) struct Weighted(Vec<u16>);

impl Weighted {
    pub(super) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let each = weights.into_iter().enumerate();
        Self(each.flat_map(|(i, weight)| std::iter::repeat_n(i as u16, weight as usize)).collect())
    }

    pub(super) fn pick(&self, bits: u64) -> usize {
        usize::from(self.0[share(bits, self.0.len() as u64) as usize])
    }
}
