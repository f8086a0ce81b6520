//! Bytes that the whole process holds of one kind, over all cores. One atomic, taken where something is
//! held and not on a request's plain way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Total {
    used: AtomicUsize,
}

/// A total and what it may be.
#[derive(Clone, Copy, Debug)]
pub struct Limit<'a> {
    pub total: &'a Arc<Total>,
    pub most: usize,
}

/// A part of a total; given back on drop.
#[derive(Debug)]
pub struct Portion {
    total: Arc<Total>,
    bytes: usize,
}

impl Total {
    /// Bytes that are held now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

impl Portion {
    /// Nothing yet.
    pub fn of(total: &Arc<Total>) -> Portion {
        Portion { total: Arc::clone(total), bytes: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it so large, unless the total becomes more than `most` by that; then it is as it was.
    #[must_use]
    pub fn resize(&mut self, bytes: usize, most: usize) -> bool {
        let used = &self.total.used;
        if bytes <= self.bytes {
            used.fetch_sub(self.bytes - bytes, Relaxed);
        } else {
            let more = bytes - self.bytes;
            let grown = |used: usize| used.checked_add(more).filter(|grown| *grown <= most);
            if used.fetch_update(Relaxed, Relaxed, grown).is_err() {
                return false;
            }
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.total.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_portions_together_are_no_more_than_the_limit() {
        let total = Arc::new(Total::default());
        let (mut first, mut second) = (Portion::of(&total), Portion::of(&total));
        assert!(first.resize(60, 100));
        assert!(!second.resize(41, 100));
        assert!(second.resize(40, 100));
        assert!(!second.resize(usize::MAX, 100));
        assert_eq!(total.used(), 100);
        assert!(first.resize(10, 0), "what becomes smaller has room under any limit");
        assert!(!first.resize(11, 50));
        assert_eq!(total.used(), 50);
        drop(second);
        assert_eq!(total.used(), 10);
        drop(first);
        assert_eq!(total.used(), 0);
    }
}
