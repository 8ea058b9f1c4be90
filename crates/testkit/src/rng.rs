//! Where generators take their choices from: a seeded generator for long runs, or a tape of numbers that
//! proptest can shrink. One generator of operations serves both.

/// A source of choices.
pub trait Source {
    /// A number below `n`; smaller numbers are simpler. `n` of 0 gives 0.
    fn below(&mut self, n: u32) -> u32;

    /// True in `percent` of 100 cases; false is simpler.
    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) >= 100 - percent.min(100)
    }

    /// One of `items`, earlier ones being simpler.
    ///
    /// # Panics
    /// When `items` is empty.
    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let len = u32::try_from(items.len()).unwrap_or(u32::MAX);
        &items[self.below(len) as usize]
    }
}

/// SplitMix64: small, fast, and the same everywhere for one seed.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

/// SplitMix64's finalizer: also a fair hash of one number.
#[must_use]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Source for Rng {
    fn below(&mut self, n: u32) -> u32 {
        scale((self.next_u64() >> 32) as u32, n)
    }
}

/// Choices read from given numbers; zeros when they are used up.
#[derive(Debug, Clone)]
pub struct Tape<'a>(std::slice::Iter<'a, u32>);

impl<'a> Tape<'a> {
    /// Reads `numbers` from the first on.
    #[must_use]
    pub fn new(numbers: &'a [u32]) -> Self {
        Self(numbers.iter())
    }
}

impl Source for Tape<'_> {
    fn below(&mut self, n: u32) -> u32 {
        scale(self.0.next().copied().unwrap_or(0), n)
    }
}

/// Monotone, so that a smaller number on the tape is a simpler choice.
fn scale(number: u32, n: u32) -> u32 {
    ((u64::from(number) * u64::from(n)) >> 32) as u32
}
