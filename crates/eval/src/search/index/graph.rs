//! The file of a graph.
//!
//! ```text
//! "OCHNSW1\n", length of the header as u64, header in JSON, blanks up to a multiple of 64,
//! then u32 numbers: `2 · links` neighbours of every row; for each further layer its rows, ascending, and `links` neighbours of each
//! ```
//!
//! Numbers have their low byte first. Neighbours that are not there are `u32::MAX`, behind those that are.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use openclip_model::files::atomic::AtomicFile;
use serde::{Deserialize, Serialize};

use super::super::collection::Collection;
use super::super::npy::map;
use crate::error::EvalError;

/// The beginning of the file.
const MAGIC: &[u8; 8] = b"OCHNSW1\n";
/// Numbers begin at a multiple of so many bytes.
const ALIGNED: usize = 64;
/// In the place of a neighbour.
pub(super) const NONE: u32 = u32::MAX;

/// What a graph was made of and what it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Neighbours of a row in a further layer; twice as many in the first.
    pub links: usize,
    /// Rows that were kept while the neighbours of a new one were looked for.
    pub construction: usize,
    /// Where a walk begins.
    pub entry: u32,
    /// Rows of each layer behind the first, from below.
    pub layers: Vec<usize>,
    /// The arrays.
    pub of: Vec<Source>,
}

/// An array, as it was when a graph was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    file: String,
    rows: usize,
    width: usize,
    /// Of its values, where `embed` has said it.
    crc32: Option<u32>,
}

/// Rows and their neighbours.
pub(super) struct Layer<'a> {
    /// Ascending; `None` for the first layer, which has all rows.
    rows: Option<&'a [u32]>,
    links: usize,
    neighbours: &'a [u32],
}

impl Layer<'_> {
    /// The neighbours of a row that is in the layer.
    pub(super) fn of(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let at = match self.rows {
            None => Some(row as usize),
            Some(rows) => rows.binary_search(&row).ok(),
        };
        let at = at.map_or(0..0, |at| at * self.links..(at + 1) * self.links);
        let neighbours = self.neighbours.get(at).unwrap_or_default();
        neighbours.iter().copied().take_while(|row| *row != NONE)
    }
}

/// A graph over the rows of a collection.
#[derive(Debug)]
pub struct Index {
    map: Mmap,
    /// Where the numbers begin.
    start: usize,
    header: Header,
    rows: usize,
}

impl Index {
    /// Where the index of a collection in `dir` is.
    pub fn place(dir: &Path, vectors: &Collection) -> PathBuf {
        let name = format!("{}.hnsw", vectors.kind().folder());
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
        let fault = |reason: &str| EvalError::Index {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let map = map(&path)?;
        let (start, header) = read(&map).ok_or_else(|| fault("damaged, or no index"))?;
        if header.of != sources(vectors) {
            return Err(fault("made of other vectors than there are now"));
        }
        let rows = vectors.rows();
        let numbers =
            rows * 2 * header.links + header.layers.iter().sum::<usize>() * (1 + header.links);
        if map.len() - start != numbers * size_of::<u32>() || header.entry as usize >= rows {
            return Err(fault("damaged"));
        }
        Ok(Some(Self {
            map,
            start,
            header,
            rows,
        }))
    }

    pub(super) fn entry(&self) -> u32 {
        self.header.entry
    }

    /// The first layer, then the further ones from below.
    pub(super) fn layers(&self) -> Vec<Layer<'_>> {
        let links = self.header.links;
        // The map begins at a page and the numbers at a multiple of 64.
        let numbers: &[u32] = bytemuck::try_cast_slice(&self.map[self.start..]).unwrap_or_default();
        let (first, mut rest) = numbers
            .split_at_checked(self.rows * 2 * links)
            .unwrap_or_default();
        let mut layers = vec![Layer {
            rows: None,
            links: 2 * links,
            neighbours: first,
        }];
        for count in &self.header.layers {
            let (rows, behind) = rest.split_at_checked(*count).unwrap_or_default();
            let (neighbours, behind) = behind.split_at_checked(count * links).unwrap_or_default();
            layers.push(Layer {
                rows: Some(rows),
                links,
                neighbours,
            });
            rest = behind;
        }
        layers
    }
}

fn read(bytes: &[u8]) -> Option<(usize, Header)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let header = serde_json::from_slice(rest.get(..length)?).ok()?;
    let start = (MAGIC.len() + 8 + length).next_multiple_of(ALIGNED);
    (start <= bytes.len()).then_some((start, header))
}

/// Writes a graph: `numbers` are those of the first layer and then of the others, as the file has them.
pub(super) fn write(path: &Path, header: &Header, numbers: &[Vec<u32>]) -> Result<(), EvalError> {
    let failed = |error| EvalError::io(path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let text = serde_json::to_vec(header).map_err(|error| failed(error.into()))?;
    let write = || {
        let mut file = AtomicFile::create(path)?;
        file.write_all(MAGIC)?;
        file.write_all(&(text.len() as u64).to_le_bytes())?;
        file.write_all(&text)?;
        let length = MAGIC.len() + 8 + text.len();
        let blanks = length.next_multiple_of(ALIGNED) - length;
        file.write_all(&vec![b' '; blanks])?;
        for number in numbers.iter().flatten() {
            file.write_all(&number.to_le_bytes())?;
        }
        file.finish()
    };
    write().map_err(failed)
}

/// What a graph over a collection is made of.
pub(super) fn sources(vectors: &Collection) -> Vec<Source> {
    let source = |(matrix, crc32): (&super::super::Matrix, Option<u32>)| Source {
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
