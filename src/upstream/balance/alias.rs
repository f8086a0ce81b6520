//! Weighted random numbers in constant time: Walker's alias method, with the table as Vose
//! (1991) makes it.

use super::hash::Random;

/// One of the columns, which are all as likely.
struct Column {
    /// Below this of 2³², the column is its own; above, it is that of `other`.
    own: u32,
    other: u32,
}

/// The table for one list of weights.
pub struct Alias {
    columns: Box<[Column]>,
}

impl Alias {
    /// Each weight is at least 1.
    pub fn new(weights: &[u32]) -> Alias {
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        let count = weights.len() as f64;
        let mut left: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) * count / sum).collect();
        let mut columns: Vec<Column> =
            (0..).zip(weights).map(|(index, _)| Column { own: u32::MAX, other: index }).collect();
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) =
            (0..left.len()).partition(|index| left[*index] < 1.0);
        while let (Some(small), Some(large)) = (poor.pop(), rich.last().copied()) {
            columns[small] = Column { own: (left[small] * 2_f64.powi(32)) as u32, other: large as u32 };
            left[large] -= 1.0 - left[small];
            if left[large] < 1.0 {
                rich.pop();
                poor.push(large);
            }
        }
        Alias { columns: columns.into() }
    }

    /// An index, with the likelihood of its weight. There is at least one.
    pub fn draw(&self, random: &Random) -> usize {
        let bits = random.next();
        let index = (((bits >> 32) * self.columns.len() as u64) >> 32) as usize;
        let column = &self.columns[index];
        if (bits as u32) < column.own { index } else { column.other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_drawn_by_their_weights() {
        let table: [&[u32]; 5] = [&[1], &[1, 1], &[1000, 1], &[1, 2, 3, 4], &[5, 5, 1, 9, 100, 1, 1]];
        for weights in table {
            let (alias, random) = (Alias::new(weights), Random::new(3));
            let mut counts = vec![0_u32; weights.len()];
            const DRAWS: u32 = 200_000;
            (0..DRAWS).for_each(|_| counts[alias.draw(&random)] += 1);
            let sum: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                let ideal = f64::from(DRAWS) * f64::from(*weight) / f64::from(sum);
                let off = (f64::from(*count) - ideal).abs();
                assert!(off < 5.0 * ideal.sqrt() + 1.0, "{weights:?}: {counts:?}");
            }
        }
    }
}
