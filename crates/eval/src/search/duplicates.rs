//! Rows that are nearly one another.

use rayon::prelude::*;

use super::collection::Collection;
use super::dots::dots;

/// Rows that are held against all others together.
const TOGETHER: usize = 64;
/// Bytes of the others at a time.
const NEAR: usize = 1 << 17;

/// Rows of a group, the first one first, with the least cosine that joined one of them.
pub type Groups = Vec<(Vec<usize>, f32)>;

/// Groups of rows, among those `asked` for, in which each is joined to another by a dot product of `threshold` at least: all pairs
/// are looked at. `done` takes the number of rows that were dealt with since its last call.
pub fn near_duplicates(
    vectors: &Collection,
    threshold: f32,
    asked: Option<&[bool]>,
    done: impl Fn(u64) + Sync,
) -> Groups {
    let rows = vectors.rows();
    let is_asked = |row: usize| asked.is_none_or(|asked| asked[row]);
    let tiles = vectors.tiles(NEAR);
    let starts: Vec<usize> = (0..rows).step_by(TOGETHER).collect();
    let pairs: Vec<(usize, usize, f32)> = starts
        .into_par_iter()
        .flat_map_iter(|start| {
            let end = rows.min(start + TOGETHER);
            let queries: Vec<Vec<f32>> = (start..end).map(|row| vectors.row(row)).collect();
            let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
            let mut found = Vec::new();
            let mut scores = Vec::new();
            for tile in tiles.iter().filter(|tile| tile.first + tile.rows > start) {
                scores.resize(tile.rows * queries.len(), 0.0);
                dots(tile.bytes, tile.numbers, &queries, &mut scores);
                for (at, scores) in scores.chunks_exact(tile.rows).enumerate() {
                    let one = start + at;
                    for (at, score) in scores.iter().enumerate() {
                        let other = tile.first + at;
                        let is_pair = *score >= threshold && other > one;
                        if is_pair && is_asked(one) && is_asked(other) {
                            found.push((one, other, *score));
                        }
                    }
                }
            }
            done((end - start) as u64);
            found
        })
        .collect();
    groups(rows, &pairs)
}

fn groups(rows: usize, pairs: &[(usize, usize, f32)]) -> Groups {
    let mut parents: Vec<usize> = (0..rows).collect();
    for (one, other, _) in pairs {
        let (one, other) = (root(&mut parents, *one), root(&mut parents, *other));
        parents[one.max(other)] = one.min(other);
    }
    let mut least = std::collections::BTreeMap::new();
    for (one, _, score) in pairs {
        let least = least
            .entry(root(&mut parents, *one))
            .or_insert((Vec::new(), *score));
        least.1 = least.1.min(*score);
    }
    for row in 0..rows {
        let root = root(&mut parents, row);
        if let Some((members, _)) = least.get_mut(&root) {
            members.push(row);
        }
    }
    least.into_values().collect()
}

/// The least row of a group; the way to it becomes shorter.
fn root(parents: &mut [usize], mut row: usize) -> usize {
    while parents[row] != row {
        parents[row] = parents[parents[row]];
        row = parents[row];
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_joined_by_others_are_one_group() {
        let pairs = [(1, 4, 0.97), (4, 6, 0.95), (2, 3, 0.99)];
        let found = groups(8, &pairs);
        assert_eq!(found, [(vec![1, 4, 6], 0.95), (vec![2, 3], 0.99)]);
        assert!(groups(8, &[]).is_empty());
    }
}
