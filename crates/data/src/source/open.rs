//! From `--train-data` and its neighbours to a source.

use std::path::Path;
use std::sync::Arc;

use super::Source;
use super::csv::{Csv, CsvFormat};
use super::keys::{KeyOptions, Keys};
use super::kind::DatasetKind;
use super::shard_index::ShardIndex;
use super::shards::Shards;
use super::shuffle::ShuffleSize;
use super::synthetic::Synthetic;
use super::tar;
use crate::error::DataError;

/// How a data set is read; the defaults are OpenCLIP's.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// `--dataset-type`.
    pub dataset_type: String,
    /// `--csv-separator`, `--csv-img-key`, `--csv-caption-key`.
    pub csv: CsvFormat,
    /// `--image-key`, `--text-key`, `--json-text-key`.
    pub keys: KeyOptions,
    /// `--dataset-resampled`.
    pub resampled: bool,
    /// `--train-data-upsampling-factors`.
    pub upsampling_factors: Option<String>,
    /// Samples of a synthetic set.
    pub num_samples: Option<u64>,
    /// Where it is remembered what shards hold, so that a resume can jump.
    pub index: Option<Arc<ShardIndex>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            dataset_type: "auto".into(),
            csv: CsvFormat::default(),
            keys: KeyOptions::default(),
            resampled: false,
            upsampling_factors: None,
            num_samples: None,
            index: None,
        }
    }
}

/// A source and what its kind implies.
#[derive(Clone)]
pub struct Opened {
    /// The samples.
    pub source: Arc<dyn Source>,
    /// Pictures become RGB before they are resized, as OpenCLIP's webdataset reader has it.
    pub rgb_first: bool,
    /// Samples of one name have one picture: a CSV file lists a picture once for every caption. The keys of shards repeat by
    /// chance.
    pub named_by_picture: bool,
}

/// Opens `data`: a CSV file, a list of shards, or nothing for a synthetic set.
///
/// # Errors
/// When the kind is unknown, or the source cannot be opened.
pub fn open(data: &str, options: &OpenOptions) -> Result<Opened, DataError> {
    let kind = DatasetKind::parse(&options.dataset_type, data)?;
    let keys = Keys::new(&options.keys)?;
    let source: Arc<dyn Source> = match kind {
        DatasetKind::Csv => Arc::new(Csv::open(Path::new(data), &options.csv)?),
        DatasetKind::Webdataset => {
            let shards = Shards::expand(data, options.upsampling_factors.as_deref())?;
            let shuffle = ShuffleSize::default();
            Arc::new(
                tar::with_keys(shards, keys, options.resampled, shuffle)?
                    .with_index(options.index.clone()),
            )
        }
        DatasetKind::Synthetic => {
            let unknown = || DataError::UnknownLength {
                source_name: "synthetic".into(),
            };
            let len = options.num_samples.ok_or_else(unknown)?;
            Arc::new(Synthetic::new(len)?)
        }
    };
    Ok(Opened {
        source,
        rgb_first: kind == DatasetKind::Webdataset,
        named_by_picture: kind == DatasetKind::Csv,
    })
}
