//! A share of all exchanges, drawn one by one.

/// From none to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    pub const ALL: Share = Share(u64::MAX);

    /// Of `part`, from 0 to 1.
    pub fn of(part: f64) -> Share {
        // 1 and what is nearest to it saturate.
        Share((part * u64::MAX as f64) as u64)
    }

    /// Whether these random bits are among the share.
    pub fn takes(self, bits: u64) -> bool {
        self == Share::ALL || bits < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_its_part_of_all_bits() {
        let cases = [
            (0.0, 0, false),
            (0.25, u64::MAX / 4 - 1024, true),
            (0.25, u64::MAX / 4 + 1024, false),
            (1.0, 0, true),
            (1.0, u64::MAX, true),
        ];
        for (part, bits, expected) in cases {
            assert_eq!(Share::of(part).takes(bits), expected, "{part} {bits}");
        }
        assert_eq!(Share::of(1.0), Share::ALL);
    }
}
