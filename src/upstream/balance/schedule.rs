//! Smooth weighted turns: in every stretch of them, each member comes as often as its weight
//! says, and the turns of one are spread evenly, as nginx and LVS do it. The order is made when
//! a table arrives; a turn is one look at it.

use super::reduced;

/// Turns before the order begins again. With weights that need more, they are rounded to fit.
const TURNS_MAX: u64 = 1 << 16;

/// The order of turns: indices of members.
pub struct Schedule {
    turns: Box<[u32]>,
}

impl Schedule {
    /// Each weight is at least 1. A member of weight w has its turns at (k + phase) / w on one
    /// line of time for all; the phases keep the turns of different members apart.
    pub fn new(weights: &[u32]) -> Schedule {
        let weights = fitting(&reduced(weights));
        let count = weights.len() as f64;
        let mut turns = Vec::new();
        for (index, weight) in (0..).zip(&weights) {
            let phase = (f64::from(index) + 0.5) / count;
            turns.extend((0..*weight).map(|k| ((f64::from(k) + phase) / f64::from(*weight), index)));
        }
        turns.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Schedule { turns: turns.into_iter().map(|(_, index)| index).collect() }
    }

    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whose turn it is. There is at least one member.
    pub fn at(&self, turn: u64) -> usize {
        self.turns[(turn % self.turns.len() as u64) as usize] as usize
    }
}

/// The weights, smaller by one factor if there would be too many turns.
fn fitting(weights: &[u32]) -> Vec<u32> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if sum <= TURNS_MAX {
        return weights.to_vec();
    }
    let scaled = |weight: &u32| (u64::from(*weight) * TURNS_MAX / sum).max(1) as u32;
    weights.iter().map(scaled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::balance::hash::{Random, within};

    fn order(weights: &[u32]) -> String {
        let schedule = Schedule::new(weights);
        (0..schedule.len() as u64).map(|turn| char::from(b'a' + schedule.at(turn) as u8)).collect()
    }

    #[test]
    fn turns_are_in_order_and_spread() {
        let table: [(&[u32], &str); 6] = [
            (&[1], "a"),
            (&[1, 1, 1], "abc"),
            (&[7, 7, 7], "abc"),
            (&[2, 4], "abb"),
            (&[5, 1, 1], "aaabaac"),
            (&[2, 1, 1], "abac"),
        ];
        for (weights, expected) in table {
            assert_eq!(order(weights), expected, "{weights:?}");
        }
    }

    #[test]
    fn every_stretch_of_turns_keeps_to_the_weights() {
        let random = Random::new(11);
        for _ in 0..200 {
            let count = 1 + within(random.next(), 12);
            let weights: Vec<u32> = (0..count).map(|_| 1 + within(random.next(), 40) as u32).collect();
            let schedule = Schedule::new(&weights);
            let sum: u32 = weights.iter().sum();
            let mut counts = vec![0_f64; count];
            for turn in 0..schedule.len() as u64 {
                counts[schedule.at(turn)] += 1.0;
                for (count, weight) in counts.iter().zip(&weights) {
                    let ideal = (turn + 1) as f64 * f64::from(*weight) / f64::from(sum);
                    assert!((count - ideal).abs() < 2.0, "{weights:?} {turn} {counts:?}");
                }
            }
        }
    }

    #[test]
    fn weights_that_need_too_many_turns_are_rounded() {
        let weights: Vec<u32> = (1..=1000).collect();
        let schedule = Schedule::new(&weights);
        assert!(schedule.len() <= TURNS_MAX as usize + weights.len());
        let of_last = (0..schedule.len() as u64).filter(|turn| schedule.at(*turn) == 999).count();
        let ideal = schedule.len() as f64 * 1000.0 / 500_500.0;
        assert!((of_last as f64 - ideal).abs() < ideal * 0.02, "{of_last} {ideal}");
    }
}
