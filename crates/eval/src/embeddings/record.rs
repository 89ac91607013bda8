//! What is in a finished partition: `partitions/NUMBER.json`, written last, so that without it there is none.

use std::io;
use std::path::Path;

use openclip_data::source::ProblemKind;
use openclip_model::files::atomic;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::npy::Array;
use crate::error::EvalError;

/// What a partition holds, and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `img_emb`.
    pub images: Array,
    /// `text_emb`.
    pub texts: Array,
    /// Rows with a value that is NaN or infinite.
    pub not_finite: u64,
    /// Captions that the tokenizer has no ids for.
    pub without_ids: u64,
    /// Samples that have no row, by what is wrong with them, and other problems.
    pub problems: Vec<(ProblemKind, u64)>,
}

impl Record {
    /// Adds those of another partition; the checksums are of no partition any more.
    pub fn add(&mut self, other: &Self) {
        self.images.rows += other.images.rows;
        self.texts.rows += other.texts.rows;
        self.not_finite += other.not_finite;
        self.without_ids += other.without_ids;
        for (kind, count) in &other.problems {
            match self.problems.iter_mut().find(|(known, _)| known == kind) {
                Some((_, sum)) => *sum += count,
                None => self.problems.push((*kind, *count)),
            }
        }
    }

    /// How many samples have no row, and why.
    pub fn dropped(&self) -> (u64, String) {
        let dropped = self.problems.iter().filter(|(kind, _)| kind.drops_sample());
        let count = dropped.clone().map(|(_, count)| count).sum();
        let reasons: Vec<_> = dropped
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        (count, reasons.join(", "))
    }

    pub(super) fn read(path: &Path) -> Result<Option<Self>, EvalError> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| EvalError::io(path, error))?,
        };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|source| EvalError::Json {
            path: path.to_owned(),
            source,
        })
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), EvalError> {
        let text = format!("{}\n", json!(self));
        atomic::write(path, text).map_err(|error| EvalError::io(path, error))
    }
}
