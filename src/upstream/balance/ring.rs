//! Where a key belongs: the same on every core, and for as long as the members are the same.
//!
//! A ring of points (Karger and others 1997), so that only the keys of a member that leaves move.
//! Each key looks at several places of it and takes the nearest point (multi-probe consistent
//! hashing, Appleton and O'Reilly 2015): with a few points for each member, they are loaded as
//! evenly as with thousands.

use super::hash::{hash, mix};
use super::reduced;

/// Places of the ring that a key looks at.
const PROBES: u64 = 4;
/// Points of a member of weight 1: a power of two. In a ring that grows too large, each member
/// keeps the first half of its points, so that not all keys move.
const POINTS: u64 = 64;
/// Points of a ring.
const POINTS_MAX: u64 = 1 << 17;
/// Points in a row that may be passed over at one place.
const PASSED_MAX: usize = 32;

struct Point {
    at: u32,
    member: u32,
}

pub struct Ring {
    /// By place.
    points: Box<[Point]>,
    /// For each stretch of the ring, its first point; as many stretches as points, or more.
    starts: Box<[u32]>,
    /// A place becomes the number of its stretch.
    shift: u32,
}

impl Ring {
    /// Members by what names them for ever, and their weights, each at least 1.
    pub fn new(names: &[&str], weights: &[u32]) -> Ring {
        let mut points = Vec::new();
        for ((member, name), count) in (0..).zip(names).zip(counts(&reduced(weights))) {
            let own = hash(name.as_bytes());
            points.extend((0..count).map(|nth| Point { at: (mix(own, nth) >> 32) as u32, member }));
        }
        // Two at one place are as good as never; then the order of the table decides.
        points.sort_by_key(|point| point.at);
        let bits = points.len().next_power_of_two().trailing_zeros().max(1);
        let shift = u32::BITS - bits;
        let mut starts = vec![0; 1 << bits];
        let mut next = 0;
        for (stretch, start) in starts.iter_mut().enumerate() {
            while points.get(next).is_some_and(|point| ((point.at >> shift) as usize) < stretch) {
                next += 1;
            }
            *start = next as u32;
        }
        Ring { points: points.into(), starts: starts.into(), shift }
    }

    /// The member of a key: of those that fit, the one with the point nearest to a place of the
    /// key's. `None` if no member near any place fits.
    pub fn pick(&self, key: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let mut nearest = (u32::MAX, None);
        for probe in 0..PROBES {
            let place = (mix(key, probe) >> 32) as u32;
            let mut next = self.first_from(place);
            for _ in 0..PASSED_MAX.min(self.points.len()) {
                let point = &self.points[next];
                let distance = point.at.wrapping_sub(place);
                if distance >= nearest.0 && nearest.1.is_some() {
                    break;
                }
                if fits(point.member as usize) {
                    nearest = (distance, Some(point.member as usize));
                    break;
                }
                next = if next + 1 == self.points.len() { 0 } else { next + 1 };
            }
        }
        nearest.1
    }

    /// The first point at a place or after it.
    fn first_from(&self, place: u32) -> usize {
        let start = self.starts[(place >> self.shift) as usize] as usize;
        let after = self.points[start..].iter().position(|point| point.at >= place);
        after.map_or(0, |after| start + after)
    }
}

/// How many points each member has.
fn counts(weights: &[u32]) -> impl Iterator<Item = u64> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let mut halvings = 0;
    while (sum * POINTS) >> halvings > POINTS_MAX {
        halvings += 1;
    }
    weights.iter().map(move |weight| ((u64::from(*weight) * POINTS) >> halvings).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(count: usize, weight: impl Fn(usize) -> u32) -> Ring {
        let names: Vec<String> =
            (0..count).map(|number| format!("10.0.{}.{}:80", number / 250, number % 250)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let weights: Vec<u32> = (0..count).map(weight).collect();
        Ring::new(&names, &weights)
    }

    #[test]
    fn keys_are_spread_by_weight() {
        for (count, most) in [(2, 0.05), (3, 0.10), (8, 0.10), (64, 0.15), (1000, 0.25)] {
            for heavy in [1, 3] {
                let weight = |index| if index % 2 == 0 { heavy } else { 1 };
                let ring = ring(count, weight);
                let keys = 2000 * count as u64;
                let mut counts = vec![0_f64; count];
                (0..keys).for_each(|key| counts[ring.pick(mix(key, 99), |_| true).unwrap()] += 1.0);
                let sum: u32 = (0..count).map(weight).sum();
                let off = |(index, found): (usize, &f64)| {
                    let ideal = keys as f64 * f64::from(weight(index)) / f64::from(sum);
                    (found / ideal - 1.0).abs()
                };
                let worst = counts.iter().enumerate().map(off).fold(0.0, f64::max);
                assert!(worst < most, "{count} members, weight {heavy}: {worst}");
            }
        }
    }

    #[test]
    fn a_member_that_does_not_fit_is_as_one_that_is_not_there() {
        let (all, fewer) = (ring(9, |_| 1), ring(8, |_| 1));
        for key in 0..20_000 {
            let key = mix(key, 7);
            let without = all.pick(key, |member| member != 8);
            assert_eq!(without, fewer.pick(key, |_| true));
            let with = all.pick(key, |_| true);
            assert!(with == without || with == Some(8), "only its own keys move");
        }
    }

    #[test]
    fn a_ring_of_heavy_members_stays_small() {
        let ring = ring(1000, |index| 1 + index as u32);
        assert!(ring.points.len() as u64 <= POINTS_MAX + 1000);
        assert_eq!(ring.pick(5, |_| false), None);
    }
}
