//! Byte strings to numbers: many hash tables in one flat array.
//!
//! Hot path. The keys are the configuration's, so a client can choose what is looked up but not
//! what is there: the longest probe is fixed when the table is laid.

use super::tree::{NONE, Run};

/// One table in [`Slots`].
#[derive(Clone, Copy, Debug)]
pub struct Index {
    start: u32,
    /// Its size, a power of two, less one.
    mask: u32,
    pub is_empty: bool,
}

impl Index {
    pub const EMPTY: Index = Index { start: 0, mask: 0, is_empty: true };
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    key: Run,
    /// [`NONE`] if the slot is free.
    value: u32,
}

/// The slots of all tables.
#[derive(Clone, Debug, Default)]
pub struct Slots(Vec<Slot>);

impl Slots {
    /// Lays a table, at most half full. No key may be there twice.
    pub fn lay(&mut self, bytes: &[u8], entries: &[(Run, u32)]) -> Index {
        if entries.is_empty() {
            return Index::EMPTY;
        }
        let size = (entries.len() * 2).next_power_of_two();
        let start = self.0.len();
        self.0.resize(start + size, Slot { hash: 0, key: Run::default(), value: NONE });
        let mask = size - 1;
        for &(key, value) in entries {
            let hash = hash(key.of(bytes));
            let mut at = hash as usize & mask;
            while self.0[start + at].value != NONE {
                at = (at + 1) & mask;
            }
            self.0[start + at] = Slot { hash, key, value };
        }
        let number =
            |position: usize| u32::try_from(position).expect("a configuration is smaller than 4 GiB");
        Index { start: number(start), mask: number(mask), is_empty: false }
    }

    /// The value of a key, or [`NONE`].
    pub fn find(&self, bytes: &[u8], index: Index, key: &[u8]) -> u32 {
        if index.is_empty {
            return NONE;
        }
        let hash = hash(key);
        let mut at = hash & index.mask;
        loop {
            let slot = &self.0[(index.start + at) as usize];
            if slot.value == NONE || slot.hash == hash && slot.key.of(bytes) == key {
                return slot.value;
            }
            at = (at + 1) & index.mask;
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.0.len() * size_of::<Slot>()
    }
}

/// Eight bytes at a time are multiplied in; the halves of each product are folded together.
pub fn hash(key: &[u8]) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(ODD);
        (product >> 64) as u64 ^ product as u64
    };
    let mut state = key.len() as u64 ^ 0x2545_f491_4f6c_dd1d;
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        state = fold(state, u64::from_le_bytes(*word));
    }
    let word = match (rest, key) {
        ([], _) => return (state >> 32) as u32 ^ state as u32,
        // The last eight bytes, some of them for the second time.
        (_, [.., a, b, c, d, e, f, g, h]) => u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        ([a, b, c, d, ..], [.., w, x, y, z]) => u64::from_le_bytes([*a, *b, *c, *d, *w, *x, *y, *z]),
        ([first, ..], _) => {
            let (middle, last) = (rest[rest.len() / 2], rest[rest.len() - 1]);
            u64::from_le_bytes([*first, middle, last, 0, 0, 0, 0, 0])
        }
    };
    let state = fold(state, word);
    (state >> 32) as u32 ^ state as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        let mut bytes = Vec::new();
        let mut slots = Slots::default();
        let mut tables = Vec::new();
        for count in [0_usize, 1, 2, 3, 100, 5_000] {
            let keys: Vec<String> = (0..count).map(|number| format!("{:x}", number * number)).collect();
            let entries: Vec<(Run, u32)> = keys
                .iter()
                .zip(0..)
                .map(|(key, value)| {
                    let start = bytes.len();
                    bytes.extend_from_slice(key.as_bytes());
                    (Run::new(start, bytes.len()), value)
                })
                .collect();
            tables.push((keys, slots.lay(&bytes, &entries)));
        }
        for (keys, index) in &tables {
            for (key, value) in keys.iter().zip(0..) {
                assert_eq!(slots.find(&bytes, *index, key.as_bytes()), value, "{key}");
                assert_eq!(slots.find(&bytes, *index, format!("{key}-").as_bytes()), NONE, "{key}");
            }
            assert_eq!(slots.find(&bytes, *index, b""), NONE);
        }
    }

    #[test]
    fn every_byte_of_a_key_counts() {
        for len in 1..40 {
            let key = vec![b'a'; len];
            for at in 0..len {
                let mut other = key.clone();
                other[at] = b'b';
                assert_ne!(hash(&key), hash(&other), "{len} {at}");
            }
            assert_ne!(hash(&key), hash(&key[1..]));
        }
    }
}
