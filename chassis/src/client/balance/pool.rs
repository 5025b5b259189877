//! Drawing from a list of endpoints in proportion to their weights, each draw in constant time.

use fastrand::Rng;

/// Some of the endpoints of a set, by their place in it, to draw from.
#[derive(Debug, Default)]
pub(super) struct Pool {
    members: Box<[u32]>,
    /// Only when the weights differ.
    alias: Option<Box<[Column]>>,
}

/// A column of the alias table: one member up to the threshold, another above it.
#[derive(Debug, Clone, Copy)]
struct Column {
    threshold: f32,
    other: u32,
}

impl Pool {
    /// These members; `weight` is asked for each unless it is `None`, which says that all weigh the same.
    pub(super) fn new(members: Vec<u32>, weight: Option<&[f32]>) -> Self {
        let weights = weight.map(|weights| members.iter().map(|member| weights[*member as usize]).collect::<Vec<_>>());
        let alias =
            weights.filter(|weights| weights.windows(2).any(|pair| pair[0] != pair[1])).map(|weights| table(&weights));
        Self { members: members.into(), alias }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member at this place of the pool.
    pub(super) fn at(&self, place: usize) -> usize {
        self.members[place] as usize
    }

    /// The place of a random member, by weight. The pool must not be empty.
    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        let place = rng.usize(..self.members.len());
        match &self.alias {
            None => place,
            Some(alias) => {
                let column = alias[place];
                if rng.f32() < column.threshold { place } else { column.other as usize }
            }
        }
    }

    /// The place of a random member other than the one at `place`, each as likely. The pool must have two.
    pub(super) fn draw_other(&self, place: usize, rng: &mut Rng) -> usize {
        let other = rng.usize(..self.members.len() - 1);
        if other < place { other } else { other + 1 }
    }
}

/// Vose's alias method (IEEE Transactions on Software Engineering 17, 1991): linear to make, constant to draw from.
fn table(weights: &[f32]) -> Box<[Column]> {
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mut scaled: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) * weights.len() as f64 / total).collect();
    // What rounding leaves over in either list is as good as 1.
    let mut columns: Vec<Column> = (0..weights.len()).map(|at| Column { threshold: 1.0, other: at as u32 }).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|at| scaled[*at] < 1.0);
    while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
        columns[less] = Column { threshold: scaled[less] as f32, other: more as u32 };
        scaled[more] -= 1.0 - scaled[less];
        if scaled[more] < 1.0 {
            large.pop();
            small.push(more);
        }
    }
    columns.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        let weights = [1.0, 3.0, 0.5, 10.0, 1.0];
        let pool = Pool::new((0..5).collect(), Some(&weights));
        let mut rng = Rng::with_seed(7);
        let mut drawn = [0_u32; 5];
        for _ in 0..155_000 {
            drawn[pool.at(pool.draw(&mut rng))] += 1;
        }
        for (count, weight) in drawn.iter().zip(weights) {
            let expected = weight * 10_000.0;
            assert!((*count as f32 - expected).abs() < 500.0, "{drawn:?}");
        }
    }

    #[test]
    fn equal_weights_need_no_table() {
        assert!(Pool::new(vec![0, 2], Some(&[2.0, 9.0, 2.0])).alias.is_none());
        assert!(Pool::new(vec![0, 1], Some(&[2.0, 9.0, 2.0])).alias.is_some());
    }

    #[test]
    fn another_is_never_the_same_and_each_as_likely() {
        let pool = Pool::new((0..4).collect(), None);
        let mut rng = Rng::with_seed(7);
        let mut drawn = [0_u32; 4];
        for _ in 0..30_000 {
            drawn[pool.draw_other(2, &mut rng)] += 1;
        }
        assert_eq!(drawn[2], 0);
        assert!(
            drawn.iter().enumerate().all(|(place, count)| place == 2 || (9_500..10_500).contains(count)),
            "{drawn:?}"
        );
    }
}
