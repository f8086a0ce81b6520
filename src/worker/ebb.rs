//! When a flood of connections is over: the memory that it took can go back to the system.
//!
//! Freed memory stays with the process, because the next connection is cheaper with it; after
//! thousands of them that would be more than the proxy ever needs otherwise.

/// Fewer connections than this leave nothing that is worth the effort.
const FLOOD: usize = 512;

/// The most connections that were open since memory was last given back.
#[derive(Debug, Default)]
pub struct Ebb {
    peak: usize,
}

impl Ebb {
    /// Whether three quarters of a flood are gone; `most` is how many were open at once since
    /// this was last asked, about a second ago.
    pub fn is_over(&mut self, open: usize, most: usize) -> bool {
        self.peak = self.peak.max(most);
        let is_over = self.peak >= FLOOD && open <= self.peak / 4;
        if is_over {
            self.peak = open;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ebb_follows_a_flood_once() {
        let mut ebb = Ebb::default();
        let seconds = [(0, 0, false), (0, 511, false), (0, 0, false), (151, 600, false), (150, 151, true)];
        let again = [(149, 150, false), (0, 4000, true), (3000, 4000, false), (900, 3000, true)];
        for (open, most, expected) in seconds.into_iter().chain(again) {
            assert_eq!(ebb.is_over(open, most), expected, "{open} of {most}");
        }
    }
}
