//! Chance that can be repeated: the same numbers for the same seed, on every machine.

/// SplitMix64: a few lines, the same numbers on every machine and in every version.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of a list that is not empty.
    pub fn pick<'list, Item>(&mut self, list: &'list [Item]) -> &'list Item {
        let length = u64::try_from(list.len()).expect("a short list");
        let at = usize::try_from(self.below(length)).expect("below the length of a list");
        list.get(at).expect("below the length of the list")
    }
}
