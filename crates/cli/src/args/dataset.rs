//! `data`: looking at data sets and packing them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use openclip_data::loader::default_workers;

use super::data::{DataFormatArgs, PictureArgs, at_least_one, zero_is_one};
use super::json::JsonArgs;

/// Flags of `data`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openclip data inspect pairs.csv --sheet sheet.png          what is in it?
  openclip data verify 'shards/{00000..00331}.tar'           can all of it be read?
  openclip data pack pairs.csv --output shards/              from single files to shards
  openclip data bench 'shards/{00000..00331}.tar'            how fast is it, and what limits?

DATA is what --train-data of `openclip train` takes.")]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// One thing to do with a data set.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Say what a data set holds: counts, sizes, formats, captions, duplicates
    Inspect(InspectArgs),
    /// Read and decode every sample, and list what is broken
    Verify(VerifyArgs),
    /// Write a data set as balanced tar shards
    Pack(PackArgs),
    /// Measure how fast a data set is read and made into batches, and what limits
    Bench(BenchArgs),
}

/// The data set, and with how many threads it is read.
#[derive(Debug, Clone, Args)]
pub struct SetArgs {
    /// Captioned pictures, as --train-data takes them: a CSV file, or tar shards such as 'shards/{00000..00331}.tar'
    #[arg(value_name = "DATA")]
    pub data: String,
    /// Threads that read and decode [default: one for each core]
    #[arg(long, value_name = "N", default_value_t = default_workers(), hide_default_value = true, value_parser = zero_is_one)]
    pub workers: usize,
    /// Columns and kinds.
    #[command(flatten)]
    pub format: DataFormatArgs,
    /// The limit of pictures.
    #[command(flatten)]
    pub pictures: PictureArgs,
}

/// Flags of `data inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every picture is read and decoded, on all cores. A range of figures holds the number that it begins with. A picture \
counts as repeated when its file's bytes came before; that takes some 40 bytes of memory a sample.

Examples:
  openclip data inspect 'shards/{00000..00331}.tar'
  openclip data inspect pairs.csv --csv-separator , --sheet sheet.png --pictures 40
  openclip data inspect 'shards/{00000..00331}.tar' --samples 10000 --json")]
pub struct InspectArgs {
    /// Look at the first N samples alone
    #[arg(long, value_name = "N")]
    pub samples: Option<u64>,
    /// Draw some of the pictures with their captions on a sheet, a PNG file
    #[arg(long, value_name = "FILE.png")]
    pub sheet: Option<PathBuf>,
    /// How many pictures the sheet has, drawn from all that are looked at; the same ones every time
    #[arg(long, value_name = "N", default_value_t = 24, requires = "sheet", value_parser = pictures)]
    pub pictures: usize,
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
    /// The set.
    #[command(flatten)]
    pub set: SetArgs,
}

/// Flags of `data verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints a line for each thing that is broken – where it is, what it is, why – and a summary. Broken are shards that \
cannot be read to their end, and samples whose picture cannot be read or decoded or that have no caption: what training \
passes over. Exit status: 0 nothing is broken, 1 something is.

Examples:
  openclip data verify 'shards/{00000..00331}.tar'
  openclip data verify pairs.csv --csv-separator , --json")]
pub struct VerifyArgs {
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
    /// The set.
    #[command(flatten)]
    pub set: SetArgs,
}

/// Flags of `data pack`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes to DIR:
  000000.tar, …   KEY.jpg (or .png, .webp), KEY.txt and KEY.json of each sample, in the order of the
                  input; KEY counts the samples of all shards, from 000000000 on
  sizes.json      the number of samples of each shard, which `openclip train` goes by
  pack.json       the settings, what was left out and why, and how far the work has come

Pictures keep their files' bytes; a format other than JPEG, PNG and WebP stands under .jpg, where readers look for it \
and tell it by its content. KEY.json says where a sample comes from and repeats its caption. A sample without a caption \
is packed without one.

When the number of samples is known beforehand (a CSV file, shards with sizes.json), shards differ by one sample at \
most; samples that are left out make the last shard smaller. Otherwise all shards but the last are full.

The same command goes on where it was interrupted, and what it leaves is the same to the byte. Finished shards are not \
written again; with --dedup the input is read again from its beginning.

Examples:
  openclip data pack pairs.csv --csv-separator , --output shards/
  openclip data pack 'raw/{00000..00331}.tar' --output small/ --resize 256 --dedup
  openclip train --model ViT-B-32 --train-data 'small/{000000..000031}.tar'")]
pub struct PackArgs {
    /// The folder to write to; it is created when missing, and refused when it has something else in it
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Samples of a shard, at most; a run needs at least as many shards as it has ranks
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub samples_per_shard: u64,
    /// Make pictures smaller whose shorter side has more than N pixels, so that it has N; others keep their bytes
    ///
    /// They are filtered as Pillow's bicubic filter does and become JPEG files, without transparency, colour profile and camera
    /// data. What trains at 224 pixels with random crops needs little more than 256.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub resize: Option<usize>,
    /// JPEG quality of pictures that are made smaller, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Leave out a sample whose picture file and caption both came before, byte by byte
    ///
    /// One picture with several captions stays, and so do copies of a picture that were encoded anew. Takes some 20 bytes of
    /// memory a sample.
    #[arg(long)]
    pub dedup: bool,
    /// The set.
    #[command(flatten)]
    pub set: SetArgs,
}

/// Flags of `data bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Measures, one after the other: reading from the source; decoding what was read; decoding and transforming as in \
training; tokenizing besides; and the whole loader, from the source to batches. Says which stage limits. What was read \
lies in memory for the stages behind it, 2 GB of it at most. The loader reads it again, from the system's cache where \
it fits: only many --samples measure a disk. `A core` is what a core does that works on nothing else.

Examples:
  openclip data bench 'shards/{00000..00331}.tar'
  openclip data bench pairs.csv --csv-separator , --workers 8 --image-size 336 --json")]
pub struct BenchArgs {
    /// Samples to measure with
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    pub samples: u64,
    /// Height and width of a transformed picture
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = side)]
    pub image_size: usize,
    /// Samples of a batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    pub batch_size: usize,
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
    /// The set.
    #[command(flatten)]
    pub set: SetArgs,
}

/// A side of a picture for a model.
fn side(text: &str) -> Result<usize, String> {
    match super::data::count(text, 1 << 14)? {
        0 => Err("expected at least 1".into()),
        side => Ok(side),
    }
}

/// Pictures that a sheet has room for.
fn pictures(text: &str) -> Result<usize, String> {
    const MOST: usize = 400;
    match at_least_one(text)? {
        count if count > MOST => Err(format!("expected at most {MOST}")),
        count => Ok(count),
    }
}
