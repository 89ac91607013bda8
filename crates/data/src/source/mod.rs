//! Where samples come from. A [`Source`] walks its samples in an order that is a pure function of
//! (seed, epoch, rank, world) and hands them, still encoded, to a [`Sink`].
//!
//! | module | source |
//! |---|---|
//! | [`csv`] | one row per sample: an image path or address and a caption |
//! | [`captions`] | one caption per sample, from COCO's or Flickr's files, with the pictures in a folder |
//! | [`folder`] | a tree of pictures, each with a `.txt` beside it |
//! | [`sharded`] | what is read shard by shard: [`tar`] archives, with [`group`] (members to samples), [`keys`] (which members), [`shuffle`] and [`shard_index`]; [`shard`] says what one is |
//! | `columnar` | rows of Parquet and Arrow files, as shards |
//! | [`shards`] | lists of shards, with weights |
//! | [`mix`] | several sources of any kind |
//! | [`image_folder`] | one directory per class |
//! | [`files`] | a directory or a list of images, no captions |
//! | [`synthetic`] | black images, for smoke runs and benchmarks |
//!
//! `packed` opens files and takes gzip, zstd, bzip2 and xz off; [`litter`] knows what systems leave among people's files. Sources whose
//! samples are numbered implement [`table::Table`]; the order is then [`table`]'s affair. [`partition`] cuts a source into parts; [`fields`] is
//! what a sample brings beside picture and caption.

mod beside;
pub mod braces;
pub mod captions;
mod coco;
pub(crate) mod columnar;
pub mod columns;
pub mod csv;
pub mod fields;
pub mod files;
mod flickr;
pub mod folder;
pub mod group;
pub mod image_folder;
mod json_caption;
pub mod keys;
pub mod kind;
mod listing;
pub mod litter;
pub mod mix;
pub mod open;
pub mod order;
mod packed;
mod pairs;
pub mod partition;
pub mod shard;
pub mod shard_index;
pub mod sharded;
pub mod shards;
pub mod shuffle;
pub mod synthetic;
pub mod table;
pub mod tar;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(crate) mod testing;
mod zstd;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::storage::{Patience, Place, Watch, mask};
pub use fields::{Field, Fields};
pub use order::Order;

/// Largest encoded image or caption that is read: larger files and members are skipped as unreadable, so that a
/// hostile header or a compression bomb costs no memory.
pub const MAX_MEMBER_BYTES: u64 = 256 << 20;

/// Extensions that count as images in directories (torchvision's list, compared without case).
pub const IMAGE_EXTENSIONS: [&str; 9] = [
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp",
];

/// A set of samples that can be walked again and again.
pub trait Source: Send + Sync {
    /// Says in a few words what is read, for messages: `pairs.csv`, `3 shards from train-{0..2}.tar`.
    fn describe(&self) -> String;

    /// How many samples an epoch of training has.
    ///
    /// `train_num_samples` is the user's word on the size of the set; sources that know their size ignore it.
    ///
    /// # Errors
    /// When the size is needed and unknown.
    fn num_samples(&self, train_num_samples: Option<u64>) -> Result<u64, DataError>;

    /// How many batches one of `world` ranks makes of `samples` that they share.
    fn batches(&self, samples: u64, world: usize, batch_size: usize) -> u64;

    /// A number that tells these samples and their order from others, wherever the files lie.
    fn fingerprint(&self) -> u32;

    /// How many batches one rank makes in an epoch of training of [`Self::num_samples`].
    ///
    /// # Errors
    /// When the size is needed and unknown, or too small for a single batch.
    fn batches_per_epoch(
        &self,
        train_num_samples: Option<u64>,
        world: usize,
        batch_size: usize,
    ) -> Result<u64, DataError> {
        let samples = self.num_samples(train_num_samples)?;
        match self.batches(samples, world.max(1), batch_size.max(1)) {
            0 => Err(DataError::TooFewSamples {
                source_name: self.describe(),
                samples: samples as usize,
                world,
                batch_size,
            }),
            batches => Ok(batches),
        }
    }

    /// The source in parts of about `size` samples, which follow one another in the order of the input. Numbered samples are parted
    /// anywhere, shards between one and the next.
    ///
    /// # Errors
    /// When what says how large shards are is malformed.
    fn partitions(self: Arc<Self>, size: u64) -> Result<Vec<Arc<dyn Source>>, DataError>;

    /// Pushes every item of one pass over the samples of `order.rank`. `pass` counts from zero within the epoch: an
    /// epoch that needs more samples than one pass has goes on with the next.
    ///
    /// # Errors
    /// Only for what no later sample can mend; a bad sample or shard is an [`Item::Problem`].
    fn pass(
        &self,
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError>;
}

/// What receives the items of a pass.
pub trait Sink {
    /// Offers to leave out the next `available` items; the answer says how many of them the source must leave out.
    /// A source that can jump calls this once at the start of a pass; one that cannot just pushes everything.
    fn jump(&mut self, available: usize) -> usize;

    /// Takes one item. `Break` asks the source to stop.
    fn push(&mut self, item: Item) -> ControlFlow<()>;

    /// Whether the next item is one of those to be left out.
    fn is_skipping(&self) -> bool {
        false
    }

    /// Whether nothing more is wanted: a source that reads long stretches without an item to push asks now and then.
    fn is_closed(&self) -> bool {
        false
    }

    /// The same for who waits elsewhere.
    fn watch(&self) -> Watch {
        Watch::default()
    }
}

/// One step of a pass. Every item, good or bad, counts one towards the cursor.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A sample to decode.
    Sample(Sample),
    /// Something to count and warn about.
    Problem(Problem),
}

/// An encoded sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The image's path, or its key in the shard.
    pub name: String,
    /// The shard that the sample comes from.
    pub shard: Option<Arc<str>>,
    /// The encoded image, or where to read it.
    pub image: ImageData,
    /// The caption, where the source has one for this sample.
    pub caption: Option<String>,
    /// The class index, for sources with classes.
    pub label: Option<usize>,
    /// What else is said of it, where that is carried along.
    pub fields: Fields,
}

/// An image before decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageData {
    /// A whole encoded file.
    Encoded(Vec<u8>),
    /// A file for a worker to read, so that files are opened in parallel.
    Path(PathBuf),
    /// The same, wherever it lies.
    Remote(Place),
    /// Black pixels; nothing is decoded.
    Black,
}

impl ImageData {
    /// The encoded file; `None` for pixels that need no decoding. The wait for it ends when `watch` says that it is not wanted.
    ///
    /// # Errors
    /// When the file cannot be read, or is larger than [`MAX_MEMBER_BYTES`].
    pub fn read(self, watch: Watch) -> io::Result<Option<Vec<u8>>> {
        let place = match self {
            Self::Encoded(bytes) => return Ok(Some(bytes)),
            Self::Black => return Ok(None),
            Self::Path(path) => Place::File(path),
            Self::Remote(place) => place,
        };
        let bytes = place.read(MAX_MEMBER_BYTES, Patience::default(), watch)?;
        Ok(Some(bytes))
    }
}

impl Sample {
    /// Where the sample is, for messages: the image's path or address, without secrets, or `shard: key`.
    pub fn place(&self) -> String {
        let name = self.shown_name();
        match &self.shard {
            Some(shard) => format!("{shard}: {name}"),
            None => name,
        }
    }

    /// The name, without secrets where it is an address.
    pub fn shown_name(&self) -> String {
        match self.name.contains("://") {
            true => mask(&self.name),
            false => self.name.clone(),
        }
    }

    /// Bytes of memory held by the image.
    pub fn image_bytes(&self) -> usize {
        match &self.image {
            ImageData::Encoded(bytes) => bytes.len(),
            ImageData::Path(_) | ImageData::Remote(_) | ImageData::Black => 0,
        }
    }

    /// Bytes of memory held by the image and caption.
    pub fn bytes(&self) -> usize {
        self.image_bytes() + self.caption.as_ref().map_or(0, String::len)
    }
}

/// A sample or shard that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of problem, for counting.
    pub kind: ProblemKind,
    /// The file, shard or `shard: key` that has it.
    pub place: String,
    /// What was found there.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.kind, self.reason)
    }
}

/// The kinds of [`Problem`], in the order in which counts are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProblemKind {
    /// A shard that cannot be opened or is no tar; the next shard follows.
    UnreadableShard,
    /// A shard that ends too early; its whole samples are used and the next shard follows.
    TruncatedShard,
    /// A shard without a single sample.
    EmptyShard,
    /// Members of a shard that belong to no sample: what systems leave there, devices, names without a suffix.
    ForeignMembers,
    /// A key that occurs again within its shard. Nothing is lost: it starts another sample, as in OpenCLIP.
    DuplicateKey,
    /// A sample without an image member.
    MissingImage,
    /// A sample without a caption where one is needed.
    MissingCaption,
    /// An image file that cannot be read.
    UnreadableImage,
    /// An image that cannot be decoded.
    UndecodableImage,
    /// A caption that is not UTF-8, or a `.json` member in its place that is malformed.
    InvalidCaption,
    /// A caption that the tokenizer has no ids for.
    UntokenizableCaption,
}

impl ProblemKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::UnreadableShard,
        Self::TruncatedShard,
        Self::EmptyShard,
        Self::ForeignMembers,
        Self::DuplicateKey,
        Self::MissingImage,
        Self::MissingCaption,
        Self::UnreadableImage,
        Self::UndecodableImage,
        Self::InvalidCaption,
        Self::UntokenizableCaption,
    ];

    /// Whether a sample is lost by it, so that it counts towards the share of bad samples.
    pub fn drops_sample(self) -> bool {
        !self.is_of_shard() && !self.is_harmless()
    }

    /// Whether nothing is lost by it.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::ForeignMembers | Self::DuplicateKey)
    }

    /// Whether it is the problem of a whole shard.
    pub fn is_of_shard(self) -> bool {
        matches!(
            self,
            Self::UnreadableShard | Self::TruncatedShard | Self::EmptyShard
        )
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnreadableShard => "unreadable shard",
            Self::TruncatedShard => "truncated shard",
            Self::EmptyShard => "shard without samples",
            Self::ForeignMembers => "shard with members of no sample",
            Self::DuplicateKey => "duplicate key",
            Self::MissingImage => "missing image",
            Self::MissingCaption => "missing caption",
            Self::UnreadableImage => "unreadable image",
            Self::UndecodableImage => "undecodable image",
            Self::InvalidCaption => "unreadable caption",
            Self::UntokenizableCaption => "untokenizable caption",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_no_secrets() {
        let mut sample = Sample {
            name: "https://me:pass@h/a.jpg?sv=1&sig=abc".into(),
            shard: None,
            image: ImageData::Black,
            caption: None,
            label: None,
            fields: Fields::default(),
        };
        assert_eq!(sample.place(), "https://***@h/a.jpg?sv=1&sig=***");
        sample.shard = Some("t.parquet".into());
        assert_eq!(
            sample.place(),
            "t.parquet: https://***@h/a.jpg?sv=1&sig=***"
        );
        sample.name = "a token b.jpg".into();
        assert_eq!(sample.place(), "t.parquet: a token b.jpg");
    }
}
