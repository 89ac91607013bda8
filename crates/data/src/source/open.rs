//! From `--train-data` and its neighbours to a source.

use std::path::Path;
use std::sync::Arc;

use super::Source;
use super::columnar::{self, Format};
use super::csv::{Csv, CsvFormat};
use super::folder::CaptionedFolder;
use super::keys::{KeyOptions, Keys};
use super::kind::DatasetKind;
use super::mix::{Mix, Part};
use super::shard::Shard;
use super::shard_index::ShardIndex;
use super::sharded::{Sampling, Sharded};
use super::shards::{parse_factors, parts};
use super::shuffle::ShuffleSize;
use super::synthetic::Synthetic;
use super::table::Table;
use super::{coco, flickr, listing, tar};
use crate::error::DataError;
use crate::storage::mask;

/// How a data set is read; the defaults are OpenCLIP's.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// `--dataset-type`.
    pub dataset_type: String,
    /// `--csv-separator`, and for every table `--csv-img-key` and `--csv-caption-key`.
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
    /// How much waits to be shuffled, of shards.
    pub shuffle: ShuffleSize,
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
            shuffle: ShuffleSize::default(),
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
    /// Whether it may have captions. `false` only where [`Columns::needs_captions`](super::columns::Columns) is and no column has them.
    pub is_captioned: bool,
}

/// Opens `data`: a table, a list of shards, a folder, or nothing for a synthetic set; `A::B` is a list of any of these.
///
/// # Errors
/// When the kind is unknown, or the source cannot be opened.
pub fn open(data: &str, options: &OpenOptions) -> Result<Opened, DataError> {
    // Names that fit nothing are a mistake for data of any kind.
    Keys::new(&options.keys)?;
    let parts = parts(data);
    let kinds = DatasetKind::of_list(&options.dataset_type, data)?;
    let is_one = kinds.iter().all(|kind| *kind == kinds[0])
        && match kinds[0] {
            // Shards have weights of their own.
            DatasetKind::Webdataset => true,
            DatasetKind::Csv | DatasetKind::Parquet | DatasetKind::Arrow => {
                options.upsampling_factors.is_none()
            }
            _ => parts.len() == 1 && options.upsampling_factors.is_none(),
        };
    if is_one {
        return open_part(kinds[0], data, options);
    }
    let factors = options.upsampling_factors.as_deref();
    let factors = factors
        .map(|factors| parse_factors(factors, parts.len()))
        .transpose()?;
    if factors.is_some() && !options.resampled {
        return Err(DataError::UpsamplingNeedsResampling);
    }
    // Shards of parts that follow one another have one order, unless each part is weighed.
    let mut joined: Vec<(DatasetKind, String, f64)> = Vec::new();
    for (at, (part, kind)) in parts.iter().zip(kinds).enumerate() {
        match joined.last_mut() {
            Some((last, list, _)) if *last == kind && kind.is_sharded() && factors.is_none() => {
                *list = format!("{list}::{part}");
            }
            _ => {
                let factor = factors.as_ref().map_or(1.0, |factors| factors[at]);
                joined.push((kind, (*part).to_owned(), factor));
            }
        }
    }
    let sharded = joined.iter().filter(|(kind, ..)| kind.is_sharded()).count();
    let of_part = OpenOptions {
        upsampling_factors: None,
        // All buffers together hold no more than one.
        shuffle: ShuffleSize {
            bytes: options.shuffle.bytes / sharded.max(1),
            ..options.shuffle
        },
        ..options.clone()
    };
    let mut mixed = Vec::with_capacity(joined.len());
    let mut whole: Option<Opened> = None;
    for (kind, list, factor) in joined {
        let opened = open_part(kind, &list, &of_part)?;
        mixed.push(Part {
            source: Arc::clone(&opened.source),
            factor,
        });
        whole = Some(match whole {
            None => opened,
            Some(others) => Opened {
                rgb_first: others.rgb_first || opened.rgb_first,
                named_by_picture: others.named_by_picture && opened.named_by_picture,
                is_captioned: others.is_captioned && opened.is_captioned,
                ..opened
            },
        });
    }
    let unknown = || DataError::UnknownDataset { data: mask(data) };
    Ok(Opened {
        source: Arc::new(Mix::new(mixed, options.resampled)),
        ..whole.ok_or_else(unknown)?
    })
}

/// Opens what is of one kind.
fn open_part(kind: DatasetKind, spec: &str, options: &OpenOptions) -> Result<Opened, DataError> {
    let path = Path::new(spec);
    Ok(match kind {
        DatasetKind::Csv => {
            let csv = Csv::open(path, &options.csv)?;
            Opened {
                is_captioned: csv.is_captioned(),
                ..table(csv)
            }
        }
        DatasetKind::Coco => table(coco::open(path)?),
        DatasetKind::Flickr => table(flickr::open(path)?),
        DatasetKind::Folder => table(CaptionedFolder::open(path)?),
        DatasetKind::Parquet => rows(spec, Format::Parquet, options)?,
        DatasetKind::Arrow => rows(spec, Format::Arrow, options)?,
        DatasetKind::Webdataset => {
            let shards = listing::shards(spec, options.upsampling_factors.as_deref())?;
            let source = tar::with_keys(
                shards,
                Keys::new(&options.keys)?,
                options.resampled,
                options.shuffle,
            )?;
            Opened {
                source: Arc::new(source.with_index(options.index.clone())),
                rgb_first: true,
                named_by_picture: false,
                is_captioned: true,
            }
        }
        DatasetKind::Synthetic => {
            let unknown = || DataError::UnknownLength {
                source_name: "synthetic".into(),
            };
            let len = options.num_samples.ok_or_else(unknown)?;
            Opened {
                named_by_picture: false,
                ..table(Synthetic::new(len)?)
            }
        }
    })
}

/// Numbered samples, each named by its picture.
fn table(table: impl Table + 'static) -> Opened {
    Opened {
        source: Arc::new(table),
        rgb_first: false,
        named_by_picture: true,
        is_captioned: true,
    }
}

/// The rows of Parquet or Arrow files: as tar shards, where the pictures are in them, and as a CSV file, where their paths are.
fn rows(spec: &str, format: Format, options: &OpenOptions) -> Result<Opened, DataError> {
    let columns = &options.csv.columns;
    let opened = columnar::open(spec, format, columns)?;
    let shards = opened
        .units
        .into_iter()
        .map(|unit| Arc::new(unit) as Arc<dyn Shard>);
    let sampling = Sampling {
        resampled: options.resampled,
        mark: columns.mark(),
        ..Sampling::default()
    };
    let shuffle = options.shuffle;
    let source = Sharded::new(shards.collect(), mask(spec), sampling, shuffle)?;
    Ok(Opened {
        source: Arc::new(source.with_index(options.index.clone())),
        rgb_first: opened.has_pictures,
        named_by_picture: !opened.has_pictures,
        is_captioned: opened.is_captioned,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Order;
    use super::super::testing::{Collect, write_shards};
    use super::*;

    #[test]
    fn lists_hold_folders_and_neighbours_of_one_kind_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = dir.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            write_shards(&folder, 1, 3);
            folder.display().to_string()
        };
        let (one, two) = (folder("one"), folder("two"));
        let table = dir.path().join("pairs.tsv");
        std::fs::write(&table, "filepath\ttitle\nx.jpg\tx\n").unwrap();
        let both = format!("{one}::{two}/000.tar");
        let all = |data: &str, world| {
            let opened = open(data, &OpenOptions::default()).unwrap();
            let order = Order {
                world,
                ..Order::sequential()
            };
            Collect::pass(opened.source.as_ref(), &order, 0).unwrap()
        };
        assert_eq!(all(&both, 1).samples().count(), 6);
        // Neither has an archive for each of two ranks, nor a size.
        let mixed = format!("{both}::{}", table.display());
        assert_eq!(all(&mixed, 2).samples().count(), 4);
        assert_eq!(all(&mixed, 1).samples().count(), 7);
        let opened = open(&mixed, &OpenOptions::default()).unwrap();
        let error = opened.source.num_samples(Some(7)).unwrap_err().to_string();
        assert!(
            error.contains("sizes.json") && error.contains("one"),
            "{error}"
        );
    }

    #[test]
    fn a_description_of_rows_has_no_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("get --token abc.arrow");
        let stream = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/parity/data/tables/stream.arrow"
        );
        std::fs::copy(stream, &path).unwrap();
        let options = OpenOptions::default();
        let opened = rows(path.to_str().unwrap(), Format::Arrow, &options).unwrap();
        let told = opened.source.describe();
        assert!(told.ends_with("--token ***)"), "{told}");
    }

    #[test]
    fn keys_that_fit_nothing_are_refused_for_any_data() {
        let mut options = OpenOptions {
            dataset_type: "synthetic".into(),
            num_samples: Some(1),
            ..OpenOptions::default()
        };
        assert!(open("", &options).is_ok());
        options.keys.json_text_key_probs = vec![0.5];
        let error = open("", &options).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("--json-text-key-probs")));
    }
}
