//! `embed`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use openclip_eval::embeddings::Numbers;

use super::data::{DataFormatArgs, LoaderArgs, PictureArgs};
use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `embed`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes vectors of length 1 in the layout of clip-retrieval, in the order of the input:
  DIR/img_emb/img_emb_0.npy            float32 or float16 [pictures, width]
  DIR/text_emb/text_emb_0.npy          the same [captions, width]
  DIR/metadata/metadata_0.parquet      image_path and caption of every row, and what else the input has on it: the \
other columns of a table, the fields of a shard's .json
and the same with 1, 2, … for every further partition. A picture of a folder is named by its path within it, one of a CSV \
file as it stands there, one of a shard by its key. One that cannot be read is left out with a warning, and its row with \
it. A picture without a caption has no row in text_emb: row k there belongs to the k-th row of the metadata that has a \
caption.

The same command goes on where it was interrupted, and what it leaves is the same to the byte. Several of them at a time, \
on one machine or on many with a common disk, share the partitions; --device cuda:0,1 does so within one.

Examples:
  openclip embed --model ViT-B-32 --pretrained clip.pt --images photos/ --output vectors/
  openclip embed --model ViT-B-32 --pretrained clip.pt --images 'shards/{00..31}.tar' --output vectors/ --dtype float16
  openclip embed --model ViT-B-32 --pretrained clip.pt --texts captions.txt --output vectors/
  openclip search vectors/ --text 'a dog in the snow'")]
pub struct EmbedArgs {
    /// Pictures: a folder with all below it (by path), a CSV file (by row), or tar shards
    ///
    /// In a folder a file is a picture by its extension or its first bytes; hidden files and what is no picture are left out and
    /// counted. The captions of a CSV file or of shards (.txt, else the `caption` of a .json) are embedded as well, unless --texts
    /// names others.
    #[arg(
        long,
        value_name = "DIR|FILE.csv|TARS",
        required_unless_present = "texts"
    )]
    pub images: Option<String>,
    /// Captions: a text file with one a line; an empty line is an empty caption
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
    /// The folder to write to; it is created when missing, and refused when it has other embeddings already
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Samples of a partition, which a kill costs at most: exactly for files that are listed, about for shards
    ///
    /// Shards are never parted: a partition has as many as hold N samples together, and one at least. How many they hold is said by
    /// sizes.json beside them or by the file itself; tar archives of which nobody says it count as 10,000.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub partition_size: u64,
    /// Numbers of the vectors: float16 takes half the room, and is what clip-retrieval writes
    #[arg(long, value_enum, default_value_t = DtypeFlag::Float32)]
    pub dtype: DtypeFlag,
    /// Replace the embeddings that --output has, all of them, once the new ones are complete
    #[arg(long)]
    pub overwrite: bool,
    /// The SHA-256 of every picture's file among the metadata, as the column sha256
    #[arg(long, requires = "images")]
    pub hash: bool,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Its preprocessing.
    #[command(flatten)]
    pub preprocess: PreprocessArgs,
    /// The limit of pictures.
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Columns and kinds.
    #[command(flatten)]
    pub format: DataFormatArgs,
    /// Batches and threads.
    #[command(flatten)]
    pub loader: LoaderArgs,
}

/// A value of `--dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeFlag {
    /// 16 bits.
    Float16,
    /// 32 bits.
    Float32,
}

impl From<DtypeFlag> for Numbers {
    fn from(flag: DtypeFlag) -> Self {
        match flag {
            DtypeFlag::Float16 => Self::Float16,
            DtypeFlag::Float32 => Self::Float32,
        }
    }
}
