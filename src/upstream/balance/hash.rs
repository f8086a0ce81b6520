//! Hashes that are the same on every core and after every start, and cheap random numbers.
//!
//! Not for secrets: whoever chooses the keys can choose where they go.

use std::cell::Cell;

/// Odd, with bits in no pattern: from the fraction of the golden ratio and of the square root of 2.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const ROOT: u64 = 0x6a09_e667_f3bc_c909;

/// The hash of a key.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = GOLDEN ^ bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("a chunk has 8 bytes"));
        state = fold(state ^ word, ROOT);
    }
    let rest = words.remainder();
    let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u64::from(*byte));
    mix(fold(state ^ last, ROOT), 0)
}

/// The `nth` number that follows from a hash.
pub fn mix(hash: u64, nth: u64) -> u64 {
    // The finalizer of MurmurHash3 (Appleby, public domain): every bit depends on all others.
    let mut bits = hash ^ nth.wrapping_mul(GOLDEN);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    wide as u64 ^ (wide >> 64) as u64
}

/// A number within 0 and `below`, exclusive, from a random or hashed one.
pub fn within(bits: u64, below: usize) -> usize {
    // Lemire's multiplication instead of a division; the bias is below 2⁻⁴⁰ for any list of ours.
    ((u128::from(bits) * below as u128) >> 64) as usize
}

/// Random numbers of one core: xorshift64* (Vigna 2016).
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(Cell::new(mix(seed, 1) | 1))
    }

    pub fn next(&self) -> u64 {
        let mut bits = self.0.get();
        bits ^= bits >> 12;
        bits ^= bits << 25;
        bits ^= bits >> 27;
        self.0.set(bits);
        bits.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_in_anything_have_different_hashes() {
        let mut seen = std::collections::HashSet::new();
        let long = "0123456789abcdefghijklmnopqrstuvwxyz";
        for len in 0..long.len() {
            assert!(seen.insert(hash(&long.as_bytes()[..len])), "{len}");
            assert!(seen.insert(hash(&long.to_uppercase().as_bytes()[..len])) || len < 11, "{len}");
        }
        assert!(seen.insert(hash(b"\0")) && seen.insert(hash(b"\0\0")));
    }

    #[test]
    fn a_hash_is_the_same_in_every_build() {
        // A new release that hashed otherwise would move every client.
        assert_eq!(hash(b"192.0.2.7"), 11_582_935_456_480_444_477);
    }

    #[test]
    fn every_number_of_a_range_is_as_likely() {
        let random = Random::new(7);
        let mut counts = [0; 10];
        (0..100_000).for_each(|_| counts[within(random.next(), 10)] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
    }
}
