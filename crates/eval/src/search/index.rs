//! An index: every vector in a few bits a number ([TurboQuant](https://arxiv.org/abs/2504.19874), by the `turbovec` crate), which takes
//! a fraction of the memory and of the time to look at.
//!
//! What it finds are candidates. They are ranked by their rows as they lie in the embeddings' own files, so that every score is exact;
//! what a search with it may miss are rows, never their scores. The same vectors give the same index.
//!
//! ```text
//! "OCINDEX1", length of the description as u64 with its low byte first, description in JSON, turbovec's own format
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};

use openclip_model::files::atomic::AtomicFile;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use turbovec::TurboQuantIndex;

use super::collection::Collection;
use super::npy::{Matrix, map};
use super::scan::{Best, Hit};
use crate::error::EvalError;

/// The beginning of the file.
const MAGIC: &[u8; 8] = b"OCINDEX1";
/// Rows that are brought in together.
const TOGETHER: usize = 4096;
/// Queries that are asked together.
const ASKED: usize = 1024;

/// What an index was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Description {
    bits: usize,
    of: Vec<Source>,
}

/// An array, as it was when an index was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    file: String,
    rows: usize,
    width: usize,
    /// Of its values, where `embed` has said it.
    crc32: Option<u32>,
}

/// An index over the rows of a collection.
pub struct Index {
    inner: TurboQuantIndex,
}

impl Index {
    /// Where the index of a collection in `dir` is.
    pub fn place(dir: &Path, vectors: &Collection) -> PathBuf {
        let name = format!("{}.index", vectors.kind().folder());
        dir.join("index").join(name)
    }

    /// The index of a collection; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was made of other vectors.
    pub fn open(dir: &Path, vectors: &Collection) -> Result<Option<Self>, EvalError> {
        let path = Self::place(dir, vectors);
        if !path.exists() {
            return Ok(None);
        }
        let fault = |reason: String| EvalError::Index {
            path: path.clone(),
            reason,
        };
        let map = map(&path)?;
        let (description, bytes) =
            read(&map).ok_or_else(|| fault("damaged, or no index".into()))?;
        if description.of != sources(vectors) {
            return Err(fault("made of other vectors than there are now".into()));
        }
        let inner = TurboQuantIndex::from_bytes(bytes);
        let inner = inner.map_err(|error| fault(format!("damaged: {error}")))?;
        match (inner.len(), inner.dim_opt()) == (vectors.rows(), Some(vectors.width())) {
            true => Ok(Some(Self { inner })),
            false => Err(fault("damaged".into())),
        }
    }

    /// Builds the index of the collection in `dir` beside it, with so many `bits` a number: 2, 3 or 4. `done` takes the number of rows
    /// that were brought in since its last call.
    ///
    /// # Errors
    /// When rows are not numbers or an array is not what it was written as, or the file cannot be written.
    pub fn build(
        dir: &Path,
        vectors: &Collection,
        bits: usize,
        done: impl Fn(u64),
    ) -> Result<(), EvalError> {
        let path = Self::place(dir, vectors);
        let fault = |reason: String| EvalError::Index {
            path: path.clone(),
            reason,
        };
        vectors.check_sums()?;
        let width = vectors.width();
        let new = TurboQuantIndex::new(width, bits);
        let mut inner = new.map_err(|error| fault(error.to_string()))?;
        for first in (0..vectors.rows()).step_by(TOGETHER) {
            let last = vectors.rows().min(first + TOGETHER);
            let rows: Vec<f32> = (first..last).flat_map(|row| vectors.row(row)).collect();
            let added = inner.add_2d(&rows, width);
            added.map_err(|error| fault(format!("rows {first} to {last}: {error}")))?;
            done((last - first) as u64);
        }
        let description = Description {
            bits,
            of: sources(vectors),
        };
        write(&path, &description, &inner.to_bytes())
    }

    /// About the `count` best rows for each query, the best first, with their exact scores, among those `asked` for. So many candidates
    /// are ranked: the more, the fewer of the best are missed.
    ///
    /// # Errors
    /// When a query is not finite.
    pub fn best(
        &self,
        vectors: &Collection,
        queries: &[Vec<f32>],
        count: usize,
        candidates: usize,
        asked: Option<&[bool]>,
    ) -> Result<Vec<Vec<Hit>>, EvalError> {
        let mut all = Vec::with_capacity(queries.len());
        for queries in queries.chunks(ASKED) {
            let found =
                self.inner
                    .try_search_with_mask(&queries.concat(), candidates.max(count), asked);
            let found = found.map_err(|error| EvalError::Device(error.to_string()))?;
            let ranked = queries.par_iter().enumerate().map(|(at, query)| {
                let mut best = Best::new(count);
                for row in found.indices_for_query(at) {
                    // A place without a row has a number below zero.
                    if let Ok(row) = usize::try_from(*row) {
                        let score = vectors.score(row, query);
                        best.offer(Hit { score, row });
                    }
                }
                best.into_hits()
            });
            all.extend(ranked.collect::<Vec<_>>());
        }
        Ok(all)
    }
}

fn read(bytes: &[u8]) -> Option<(Description, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (description, rest) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(description).ok()?, rest))
}

fn write(path: &Path, description: &Description, bytes: &[u8]) -> Result<(), EvalError> {
    let failed = |error| EvalError::io(path, error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let text = serde_json::to_vec(description).map_err(|error| failed(error.into()))?;
    let write = || {
        let mut file = AtomicFile::create(path)?;
        file.write_all(MAGIC)?;
        file.write_all(&(text.len() as u64).to_le_bytes())?;
        file.write_all(&text)?;
        file.write_all(bytes)?;
        file.finish()
    };
    write().map_err(failed)
}

/// What an index over a collection is made of.
fn sources(vectors: &Collection) -> Vec<Source> {
    let source = |(matrix, crc32): (&Matrix, Option<u32>)| Source {
        file: matrix
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        rows: matrix.rows(),
        width: matrix.width(),
        crc32,
    };
    vectors.sums().map(source).collect()
}
