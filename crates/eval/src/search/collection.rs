//! The arrays of a folder, one behind another.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::dots::dots;
use super::npy::Matrix;
use super::table::Table;
use crate::embeddings::{Numbers, arrays};
use crate::error::EvalError;

/// Which vectors of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Those of pictures.
    Image,
    /// Those of captions.
    Text,
}

impl Kind {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Image => "img_emb",
            Self::Text => "text_emb",
        }
    }

    /// The column of the metadata that every row of it has.
    fn column(self) -> &'static str {
        match self {
            Self::Image => "image_path",
            Self::Text => "caption",
        }
    }
}

/// All vectors of a kind in a folder, and whose they are.
#[derive(Debug)]
pub struct Collection {
    parts: Vec<Part>,
    kind: Kind,
    rows: usize,
    width: usize,
}

#[derive(Debug)]
struct Part {
    /// The first row of it in the collection.
    first: usize,
    matrix: Matrix,
    /// Checksum of its values, where it is known.
    crc32: Option<u32>,
    metadata: PathBuf,
}

impl Collection {
    /// Opens the vectors in `dir`: what `openclip embed` or clip-retrieval has written there.
    ///
    /// # Errors
    /// When there are none, a file is damaged or does not fit the others, or metadata are missing.
    pub fn open(dir: &Path, kind: Kind) -> Result<Self, EvalError> {
        let none = |reason: &str| EvalError::Embeddings {
            dir: dir.to_owned(),
            reason: reason.to_owned(),
        };
        if !dir.is_dir() {
            return Err(none("no such folder"));
        }
        let folder = kind.folder();
        let files = arrays(dir, folder)?;
        let mut found = Self {
            parts: Vec::with_capacity(files.len()),
            kind,
            rows: 0,
            width: 0,
        };
        for (path, said) in files {
            let matrix = Matrix::open(&path)?;
            if let Some(said) = said.filter(|said| said.rows != matrix.rows() as u64) {
                return Err(EvalError::Array {
                    path,
                    reason: format!(
                        "{} rows, where partitions/ says {}",
                        matrix.rows(),
                        said.rows
                    ),
                });
            }
            if matrix.rows() == 0 {
                continue;
            }
            if found.parts.is_empty() {
                found.width = matrix.width();
            } else if matrix.width() != found.width {
                return Err(EvalError::Array {
                    path,
                    reason: format!(
                        "rows of {} numbers, and those of the files before it have {}",
                        matrix.width(),
                        found.width
                    ),
                });
            }
            let metadata = metadata(dir, folder, &path);
            let rows = matrix.rows();
            found.parts.push(Part {
                first: found.rows,
                matrix,
                crc32: said.map(|said| said.crc32),
                metadata,
            });
            found.rows += rows;
        }
        match found.rows {
            0 => Err(none(match kind {
                Kind::Image => {
                    "no vectors of pictures in it (img_emb/*.npy); `openclip embed --images … --output` writes them"
                }
                Kind::Text => "no vectors of captions in it (text_emb/*.npy)",
            })),
            _ => Ok(found),
        }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Which vectors they are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The arrays, in order.
    pub fn arrays(&self) -> impl Iterator<Item = &Matrix> {
        self.parts.iter().map(|part| &part.matrix)
    }

    /// One row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let part = self.part(row);
        part.matrix.row(row - part.first)
    }

    /// In which of the arrays a row is, by the number of its partition.
    pub fn partition(&self, row: usize) -> Option<usize> {
        let stem = self.part(row).matrix.path().file_stem()?.to_str()?;
        stem.rsplit('_').next()?.parse().ok()
    }

    /// The dot product of a row with a query.
    pub(super) fn score(&self, row: usize, query: &[f32]) -> f32 {
        let Part { first, matrix, .. } = self.part(row);
        let size = matrix.width() * matrix.numbers().bytes();
        let at = (row - first) * size;
        let mut score = [f32::NAN];
        dots(
            &matrix.bytes()[at..at + size],
            matrix.numbers(),
            &[query],
            &mut score,
        );
        score[0]
    }

    /// The arrays, each with the checksum that its writer has said.
    pub(super) fn sums(&self) -> impl Iterator<Item = (&Matrix, Option<u32>)> {
        self.parts.iter().map(|part| (&part.matrix, part.crc32))
    }

    /// Compares the arrays with their checksums, where these are known.
    ///
    /// # Errors
    /// When one has been changed.
    pub(super) fn check_sums(&self) -> Result<(), EvalError> {
        let changed = self.parts.par_iter().find_first(|part| {
            let found = || crc32fast::hash(part.matrix.bytes());
            part.crc32.is_some_and(|crc32| crc32 != found())
        });
        match changed {
            None => Ok(()),
            Some(part) => Err(EvalError::Array {
                path: part.matrix.path().to_owned(),
                reason: "its values are not those that were written; embed them again".to_owned(),
            }),
        }
    }

    /// The metadata of some rows, each as an object of its columns.
    ///
    /// # Errors
    /// When metadata cannot be read, or do not fit the vectors.
    pub fn metadata(
        &self,
        rows: &[usize],
    ) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, EvalError> {
        let mut found = vec![serde_json::Map::new(); rows.len()];
        for part in &self.parts {
            let here = part.first..part.first + part.matrix.rows();
            let wanted = rows
                .iter()
                .enumerate()
                .filter(|(_, row)| here.contains(row));
            let mut wanted: Vec<_> = wanted.map(|(at, row)| (row - part.first, at)).collect();
            if wanted.is_empty() {
                continue;
            }
            wanted.sort_unstable();
            let table = Table::open(&part.metadata)?;
            let places = table.places(self.kind.column(), part.matrix.rows())?;
            let place = |row: usize| places.as_ref().map_or(row, |places| places[row]);
            // Several queries may find the same row.
            let mut lines: Vec<usize> = wanted.iter().map(|(row, _)| place(*row)).collect();
            lines.dedup();
            let cells = table.rows(&lines)?;
            for (row, at) in wanted {
                if let Ok(line) = lines.binary_search(&place(row)) {
                    found[at] = cells[line].clone();
                }
            }
        }
        Ok(found)
    }

    /// Calls `look` with every table of metadata, the rows of the collection that it belongs to, and the line of each in it where
    /// that is not its number.
    pub(super) fn tables(
        &self,
        mut look: impl FnMut(
            &Table,
            std::ops::Range<usize>,
            Option<Vec<usize>>,
        ) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        for part in &self.parts {
            let rows = part.matrix.rows();
            let table = Table::open(&part.metadata)?;
            let places = table.places(self.kind.column(), rows)?;
            look(&table, part.first..part.first + rows, places)?;
        }
        Ok(())
    }

    /// All rows in stretches of about so many bytes.
    pub(super) fn tiles(&self, bytes: usize) -> Vec<Tile<'_>> {
        let mut tiles = Vec::new();
        for Part { first, matrix, .. } in &self.parts {
            let size = matrix.width() * matrix.numbers().bytes();
            let together = (bytes / size).max(1);
            for (at, bytes) in matrix.bytes().chunks(together * size).enumerate() {
                tiles.push(Tile {
                    bytes,
                    numbers: matrix.numbers(),
                    first: first + at * together,
                    rows: bytes.len() / size,
                });
            }
        }
        tiles
    }

    fn part(&self, row: usize) -> &Part {
        let after = self.parts.partition_point(|part| part.first <= row);
        &self.parts[after.saturating_sub(1)]
    }
}

/// Rows of one file that lie end to end.
pub(super) struct Tile<'a> {
    pub bytes: &'a [u8],
    pub numbers: Numbers,
    /// The first of them in the collection.
    pub first: usize,
    pub rows: usize,
}

/// The metadata beside an array: the file of the same number.
fn metadata(dir: &Path, folder: &str, array: &Path) -> PathBuf {
    let stem = array.file_stem().unwrap_or_default().to_string_lossy();
    let number = stem.strip_prefix(&format!("{folder}_")).unwrap_or(&stem);
    dir.join("metadata")
        .join(format!("metadata_{number}.parquet"))
}
