//! Finds the ends of fields, 64 bytes at a time.
//!
//! Fields are short, so starting a search for each costs more than the comparison. Here a stretch of text is compared
//! with all bytes that may end a field at once, and the ends in it are then consumed one by one.

use wide::u8x16;

const STRETCH: usize = 64;

/// Where the fields of a text may end.
pub(crate) struct Ends<'a> {
    text: &'a [u8],
    bytes: [u8x16; 3],
    /// The start of the current stretch, and a bit for each end in it that has not been consumed.
    base: usize,
    ahead: u64,
}

impl<'a> Ends<'a> {
    /// The positions in `text`, from `at` on, of these bytes.
    pub(crate) fn new(text: &'a [u8], at: usize, bytes: [u8; 3]) -> Self {
        let mut ends = Self { text, bytes: bytes.map(u8x16::splat), base: 0, ahead: 0 };
        ends.look_at(at);
        ends
    }

    /// The first such position at or after `from`, or the end of the text. `from` must not precede the position found
    /// before.
    #[inline]
    pub(crate) fn next(&mut self, from: usize) -> usize {
        if from >= self.base + STRETCH {
            self.look_at(from);
        }
        self.ahead &= u64::MAX << (from - self.base);
        while self.ahead == 0 {
            if self.base + STRETCH >= self.text.len() {
                return self.text.len();
            }
            self.look_at(self.base + STRETCH);
        }
        self.base + self.ahead.trailing_zeros() as usize
    }

    fn look_at(&mut self, base: usize) {
        self.base = base;
        let rest = self.text.get(base..).unwrap_or_default();
        self.ahead = match rest.first_chunk::<STRETCH>() {
            Some(stretch) => self.matches(stretch),
            None => {
                let mut stretch = [0; STRETCH];
                stretch[..rest.len()].copy_from_slice(rest);
                // Ignores the padding after the end of the text.
                self.matches(&stretch) & !(u64::MAX << rest.len())
            }
        };
    }

    #[inline]
    fn matches(&self, stretch: &[u8; STRETCH]) -> u64 {
        let (parts, _) = stretch.as_chunks::<16>();
        parts.iter().rev().fold(0, |bits, part| {
            let part = u8x16::new(*part);
            let [a, b, c] = self.bytes.map(|byte| part.simd_eq(byte));
            bits << 16 | u64::from((a | b | c).to_bitmask())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_search_finds(
            text in prop::collection::vec(prop_oneof![Just(b','), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            steps in prop::collection::vec(0_usize..90, 1..20),
        ) {
            let wanted = [b',', b'\n', b'\r'];
            let mut from = steps[0].min(text.len());
            let mut ends = Ends::new(&text, from, wanted);
            for step in steps {
                from = (from + step).min(text.len());
                let found = text[from..].iter().position(|b| wanted.contains(b)).map_or(text.len(), |at| from + at);
                prop_assert_eq!(ends.next(from), found);
                from = found;
            }
        }
    }
}
