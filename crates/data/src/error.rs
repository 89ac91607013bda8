//! What can go wrong between the bytes on disk and a batch.

use std::any::Any;
use std::path::PathBuf;

use openclip_model::panics;

/// An error of this crate. The caller adds which file or sample it belongs to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The bytes are of no picture format that is read here.
    #[error("not a picture: expected {read}, found {found}")]
    UnknownPicture {
        /// The formats that are read.
        read: &'static str,
        /// The first bytes, in hexadecimal.
        found: String,
    },
    /// Something else stands in a picture's place.
    #[error("no picture: {what}")]
    NotAPicture {
        /// What it is, such as `an HTML page`.
        what: &'static str,
    },
    /// A known format that is not read here.
    #[error("{what} is not read: {advice}")]
    UnreadFormat {
        /// The format, such as `a HEIC picture`.
        what: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// The picture's data is damaged, cut off or of an unsupported kind.
    #[error("{format} picture cannot be decoded: {reason}")]
    Picture {
        /// Name of the file format.
        format: &'static str,
        /// The decoder's own words.
        reason: String,
    },
    /// The picture's header claims more pixels than allowed.
    #[error("{width}x{height} pixels exceed the limit of {limit} pixels (--max-image-pixels)")]
    PictureTooLarge {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Largest allowed `width * height`.
        limit: usize,
    },
    /// A buffer handed in by the caller has the wrong length.
    #[error("output buffer holds {found} values, expected {expected}")]
    BufferLength {
        /// Length needed.
        expected: usize,
        /// Length given.
        found: usize,
    },
    /// A transform was configured with values that make no sense.
    #[error("{name} is {found}, expected {expected}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A tokenizer file or an embedded table cannot be used.
    #[error("tokenizer {file}: {reason}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tokenizer with more ids than the model has vectors for.
    #[error(
        "tokenizer {tokenizer} has {ids} token ids, but the model reads {vocab_size} (text_cfg.vocab_size, or vocab_size of its Hugging Face text tower): \
         take the tokenizer that the model was made for, or a model for {ids} ids"
    )]
    Vocabulary {
        /// The tokenizer's name.
        tokenizer: String,
        /// How many ids it has.
        ids: usize,
        /// How many the model reads.
        vocab_size: usize,
    },
    /// A caption that has no ids.
    #[error("caption {caption:?} cannot be tokenized: {reason}")]
    Caption {
        /// The caption, or its beginning.
        caption: String,
        /// Why not.
        reason: String,
    },

    /// A file or directory that cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    // Sources.
    /// A brace pattern that cannot be expanded.
    #[error("shard pattern {pattern:?}: {reason}")]
    Braces {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A malformed CSV file.
    #[error("{path}: {reason}", path = path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// A separator that is not one character.
    #[error("--csv-separator {separator:?}: expected one ASCII character, or \\t")]
    CsvSeparator {
        /// The separator.
        separator: String,
    },
    /// A table without a column that is asked for.
    #[error(
        "{path}: no column {column}; it has {columns:?} (--csv-img-key and --csv-caption-key name columns, --csv-separator what is between those of a CSV file)",
        path = path.display()
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column asked for in quotes, or several of which one would do.
        column: String,
        /// The columns that exist.
        columns: Vec<String>,
    },
    /// A column that does not hold what it is wanted for.
    #[error(
        "{path}: column {column:?} is {found}; expected {expected} (--csv-img-key and --csv-caption-key name others)",
        path = path.display()
    )]
    ColumnKind {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What it holds.
        found: String,
        /// What can be read.
        expected: &'static str,
    },
    /// A file of samples that cannot be read.
    #[error("{path}: {reason}", path = path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Captions whose pictures are nowhere.
    #[error(
        "{path}: no folder with its pictures, such as {name}; looked in {}",
        folders.join(", "),
        path = path.display()
    )]
    NoPictureFolder {
        /// The file of captions.
        path: PathBuf,
        /// One of the pictures.
        name: String,
        /// Where they were looked for.
        folders: Vec<String>,
    },
    /// An unknown kind of dataset.
    #[error(
        "--dataset-type {name:?}: expected webdataset, csv, parquet, arrow, coco, flickr, folder, synthetic or auto"
    )]
    DatasetType {
        /// The kind asked for.
        name: String,
    },
    /// Data whose kind cannot be told from its name.
    #[error(
        "--dataset-type auto: cannot tell the type of {data:?} from its name; expected .tar, .csv, .tsv, .parquet, .arrow, .json (COCO's or \
         Karpathy's captions), .token (Flickr's) or a folder"
    )]
    UnknownDataset {
        /// The data.
        data: String,
    },
    /// A name that begins with a scheme which is not known.
    #[error(
        "{name}: nothing is read from {scheme}:; expected a path, or a name that begins with pipe:, http://, https://, s3://, gs://, az://, abfs:// or hf://"
    )]
    UnsupportedScheme {
        /// The scheme, such as `s3` or `pipe`.
        scheme: String,
        /// The shard.
        name: String,
    },
    /// An address that cannot be one.
    #[error("{name}: not an address; expected scheme://HOST/PATH")]
    Address {
        /// The address, without secrets.
        name: String,
    },
    /// A shard list without shards.
    #[error("{pattern:?} names no shard to read")]
    NoShards {
        /// The list.
        pattern: String,
    },
    /// A part of unknown size of a list of several kinds.
    #[error(
        "{source_name}: its number of samples is unknown, which a list of several kinds of data goes by; put sizes.json or __len__ beside its first shard"
    )]
    UnknownPartLength {
        /// The part.
        source_name: String,
    },
    /// A list of shards, `@FILE`, that cannot be used.
    #[error("{path}: {reason}")]
    ShardList {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard that is no longer what it was when the run began to read it.
    #[error(
        "{shard}: it cannot be read again to resume the epoch ({reason}); without the run's folder shard-index shards are read from their start"
    )]
    ShardChanged {
        /// The shard.
        shard: String,
        /// What happened.
        reason: String,
    },
    /// A shard in which the members of a sample do not stand together.
    #[error(
        "{shard}: the members of sample {key} do not stand together: its {earlier} and its {later} have other samples between them; sort the archive by name, as tar --sort=name does"
    )]
    ScatteredSample {
        /// The shard.
        shard: String,
        /// The sample.
        key: String,
        /// What came first.
        earlier: String,
        /// What came later.
        later: String,
    },
    /// Fewer shards than ranks to read them.
    #[error(
        "{pattern}: {shards} shards for {world} ranks; each rank needs a shard of its own (or --dataset-resampled)"
    )]
    TooFewShards {
        /// The list.
        pattern: String,
        /// How many shards it has.
        shards: usize,
        /// How many ranks there are.
        world: usize,
    },
    /// Upsampling factors that do not fit the parts of the shard list.
    #[error(
        "--train-data-upsampling-factors {factors:?}: expected {parts} numbers, one for each part of --train-data, none negative and not all 0, separated by ::"
    )]
    UpsamplingFactors {
        /// The factors.
        factors: String,
        /// How many parts the list has.
        parts: usize,
    },
    /// Upsampling factors without sampling with replacement.
    #[error("--train-data-upsampling-factors works only with --dataset-resampled")]
    UpsamplingNeedsResampling,
    /// A `sizes.json` or `__len__` that does not give the number of samples.
    #[error("{path}: {reason}")]
    ShardSizes {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A training set of unknown size.
    #[error(
        "{source_name}: the number of training samples is unknown; give --train-num-samples, or put sizes.json or __len__ beside the first shard"
    )]
    UnknownLength {
        /// The training set.
        source_name: String,
    },
    /// A training set too small for one batch.
    #[error(
        "{source_name}: {samples} samples make no batch of {batch_size} on each of {world} ranks"
    )]
    TooFewSamples {
        /// The training set.
        source_name: String,
        /// How many samples it has.
        samples: usize,
        /// How many ranks share them.
        world: usize,
        /// Samples in a batch.
        batch_size: usize,
    },
    /// An image folder without class directories.
    #[error("{path}: no class directory in it; expected one directory of images per class", path = path.display())]
    NoClasses {
        /// The folder.
        path: PathBuf,
    },
    /// A class folder that is not named by the number of its class.
    #[error("{path}: the class folder {name:?} is not named by a number from 0 to {last}", path = path.display())]
    ClassNumber {
        /// The folder of all classes.
        path: PathBuf,
        /// The folder's name.
        name: String,
        /// The last class.
        last: usize,
    },
    /// A directory without images.
    #[error("{path}: no image in it; expected files ending in .jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff or .webp", path = path.display())]
    NoImages {
        /// The directory.
        path: PathBuf,
    },
    /// A tree of folders without pictures.
    #[error("{path}: no picture in it or in a folder below it; found {left_out}", path = path.display())]
    NoPictures {
        /// The folder.
        path: PathBuf,
        /// What is there instead.
        left_out: String,
    },
    /// A folder that cannot be packed into.
    #[error("{path}: {reason}", path = path.display())]
    Pack {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    // Loader.
    /// A source that gives no usable sample.
    #[error("{source_name}: no usable sample: found {found}")]
    NoSamples {
        /// The source.
        source_name: String,
        /// What was found instead.
        found: String,
    },
    /// A source of mostly bad samples.
    #[error("{source_name}: {dropped} of {total} samples are bad, more than {}% (--max-skip {max_share}): found {found}", max_share * 100.0)]
    TooManyBadSamples {
        /// The source.
        source_name: String,
        /// How many samples were dropped.
        dropped: u64,
        /// Out of how many.
        total: u64,
        /// The share allowed, 0 to 1.
        max_share: f64,
        /// What was found instead of good samples.
        found: String,
    },
    /// A batch for which the system has no memory.
    #[error(
        "a batch of {size} samples takes {bytes} bytes, which this machine does not have; lower --batch-size"
    )]
    BatchTooLarge {
        /// Samples in a batch.
        size: usize,
        /// Their pixels and token ids.
        bytes: usize,
    },
    /// A bug: a thread of the loader panicked.
    #[error("loader thread panicked at {place}: {message}")]
    WorkerPanicked {
        /// The sample or source at work.
        place: String,
        /// The message of the panic.
        message: String,
    },
    /// A bug: the loader's threads ended without saying why.
    #[error("the loader's threads ended without a result")]
    LoaderStopped,
    /// The system gave no thread.
    #[error("cannot start a loader thread: {source}")]
    Thread {
        /// The system's error.
        source: std::io::Error,
    },
}

impl DataError {
    /// The error of a caption that cannot be tokenized.
    pub(crate) fn caption(text: &str, reason: impl ToString) -> Self {
        const LONGEST: usize = 200;
        let beginning: String = text.chars().take(LONGEST).collect();
        Self::Caption {
            caption: match beginning.len() < text.len() {
                true => beginning + "…",
                false => beginning,
            },
            reason: reason.to_string(),
        }
    }
}

/// What a panic said, for the error that it becomes; `panic` where it said nothing.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    panics::message(payload).unwrap_or("panic").to_owned()
}
