//! Building a graph.

use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;

use super::super::collection::Collection;
use super::super::dots::pair;
use super::graph::{Header, Index, NONE, sources, write};
use crate::error::EvalError;

/// Rows that are brought in together.
const TOGETHER: usize = 4096;
/// Most layers: with 16 links, the 16th would have one row of 16¹⁶.
const LAYERS: usize = 16;

/// How a graph is built.
#[derive(Clone, Copy, Debug)]
pub struct IndexOptions {
    /// Neighbours of a row in each layer, and twice as many in the first: 4 bytes each.
    pub links: usize,
    /// Rows that are kept while the neighbours of a new one are looked for.
    pub construction: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            links: 16,
            construction: 200,
        }
    }
}

/// One less the cosine of rows of length 1.
struct Away;

impl Distance<f16> for Away {
    fn eval(&self, one: &[f16], two: &[f16]) -> f32 {
        (1.0 - pair(one, two)).max(0.0)
    }
}

/// Builds the index of the collection in `dir` beside it. `done` takes the number of rows that were brought in since its last call.
///
/// # Errors
/// When there are too many rows, an array is not what it was written as, or the file cannot be written.
pub fn build(
    dir: &Path,
    vectors: &Collection,
    options: IndexOptions,
    done: impl Fn(u64),
) -> Result<(), EvalError> {
    let path = Index::place(dir, vectors);
    let rows = vectors.rows();
    if u32::try_from(rows).is_err() {
        return Err(EvalError::Index {
            path,
            reason: format!("{rows} rows, and an index has {NONE} at most"),
        });
    }
    vectors.check_sums()?;
    let graph = Hnsw::new(options.links, rows, LAYERS, options.construction, Away);
    let mut values = Vec::new();
    for first in (0..rows).step_by(TOGETHER) {
        let together = TOGETHER.min(rows - first);
        values.clear();
        for row in first..first + together {
            let row = vectors.row(row);
            let start = values.len();
            values.resize(start + row.len(), f16::ZERO);
            values[start..].convert_from_f32_slice(&row);
        }
        let slices = values.chunks_exact(vectors.width()).zip(first..);
        graph.parallel_insert_slice(&slices.collect());
        done(together as u64);
    }
    let (header, numbers) = flat(&graph, rows, options, vectors);
    write(&path, &header, &numbers)
}

/// The neighbours as the file has them.
fn flat(
    graph: &Hnsw<'_, f16, Away>,
    rows: usize,
    options: IndexOptions,
    vectors: &Collection,
) -> (Header, Vec<Vec<u32>>) {
    let links = options.links;
    let mut ground = vec![NONE; rows * 2 * links];
    let mut above: Vec<Vec<(u32, Vec<u32>)>> = Vec::new();
    for point in graph.get_point_indexation() {
        let row = point.get_origin_id();
        let layers = point.get_neighborhood_id();
        let top = usize::from(point.get_point_id().0);
        above.resize_with(above.len().max(top), Vec::new);
        for (layer, found) in layers.iter().take(top + 1).enumerate() {
            let found = found.iter().map(|neighbour| neighbour.d_id as u32);
            match layer.checked_sub(1) {
                None => {
                    let place = ground[row * 2 * links..].iter_mut().take(2 * links);
                    place.zip(found).for_each(|(place, row)| *place = row);
                }
                Some(layer) => above[layer].push((row as u32, found.take(links).collect())),
            }
        }
    }
    let top = above.iter().rev().find_map(|layer| layer.first());
    let header = Header {
        links,
        construction: options.construction,
        entry: top.map_or(0, |(row, _)| *row),
        layers: above.iter().map(Vec::len).collect(),
        of: sources(vectors),
    };
    let mut numbers = vec![ground];
    for mut layer in above {
        layer.sort_unstable();
        numbers.push(layer.iter().map(|(row, _)| *row).collect());
        let padded = layer.into_iter().flat_map(|(_, mut found)| {
            found.resize(links, NONE);
            found
        });
        numbers.push(padded.collect());
    }
    (header, numbers)
}
