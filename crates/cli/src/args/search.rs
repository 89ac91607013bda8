//! `search`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use openclip_eval::search::{Filter, Kind};

use super::data::{PictureArgs, at_least_one};
use super::json::JsonArgs;

/// Flags of `search`.
#[derive(Debug, Args)]
#[command(after_help = "\
DIR is what `openclip embed` or clip-retrieval has written. Every vector is looked at, so that the answer is exact; it takes \
about as long as reading the vectors from memory. With an index (`openclip index`) nearly the same rows are found sooner; --exact \
looks at all vectors nevertheless. The folder remembers its model; --model and --pretrained name it where it \
has moved, or where the folder is of clip-retrieval.

A line has the cosine, the picture's name and its caption; --json has all columns of the metadata. A condition of --filter is \
column=value, column!=value, column~pattern (a regular expression), or column<number, <=, >, >=; all of them have to hold, and \
a row without a value is left out.

Examples:
  openclip search vectors/ --text 'a dog in the snow'
  openclip search vectors/ --image query.jpg --top 20 --filter 'width>=512' --filter 'caption~(?i)snow'
  openclip search vectors/ --texts queries.txt --json
  openclip search vectors/ --text 'red shoes' --sheet shoes.png
  openclip search vectors/ --near-duplicates 0.96")]
pub struct SearchArgs {
    /// The folder of vectors
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// What to look for, in words
    ///
    /// Words that look like a flag are written --text=-words.
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    pub text: Vec<String>,
    /// A text file with one query a line, behind those of --text; blank lines are passed over
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
    /// Pictures to look for the like of
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub image: Vec<PathBuf>,
    /// Vectors to look for: an .npy file of one or several, of the folder's width
    #[arg(long, value_name = "FILE.npy")]
    pub vector: Option<PathBuf>,
    /// How many rows to show for each query
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    pub top: usize,
    /// Which vectors to search [default: those of pictures, where there are any]
    #[arg(long = "in", value_name = "KIND", value_enum)]
    pub kind: Option<KindFlag>,
    /// Look at every vector, also where there is an index
    #[arg(long)]
    pub exact: bool,
    /// Rows that an index gives to be ranked: more miss less, and take longer
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    pub candidates: usize,
    /// Only rows whose metadata fulfil a condition, such as 'width>=512'
    #[arg(long, value_name = "CONDITION", value_parser = str::parse::<Filter>)]
    pub filter: Vec<Filter>,
    /// Instead of a search, groups of rows whose cosine is COSINE or more; all pairs are looked at
    #[arg(long, value_name = "COSINE", conflicts_with_all = ["text", "texts", "image", "vector", "top"], value_parser = cosine)]
    pub near_duplicates: Option<f32>,
    /// Draw what is found on a sheet as well, a PNG file
    #[arg(long, value_name = "FILE.png", conflicts_with = "near_duplicates")]
    pub sheet: Option<PathBuf>,
    /// Where the pictures are, for --sheet, if they are elsewhere by now
    #[arg(long, value_name = "DATA", requires = "sheet")]
    pub images: Option<String>,
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
    /// The model of the vectors, where the folder does not say it or it is elsewhere by now
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub model: Option<String>,
    /// Its weights, likewise
    #[arg(long, value_name = "FILE|DIR|TAG|URL", help_heading = "Model")]
    pub pretrained: Option<String>,
    /// Where downloads go and tags are looked for [default: Hugging Face's cache]
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub cache_dir: Option<PathBuf>,
    /// Where the query goes through the model: cpu, cuda[:N] or another device of `openclip embed`
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "the text is the flag's help, in which [:N] may be left out"
    )]
    #[arg(long, default_value = "auto", help_heading = "Model")]
    pub device: String,
    /// The limit of pictures.
    #[command(flatten)]
    pub pictures: PictureArgs,
}

/// A value of `--in`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindFlag {
    /// Those of pictures.
    Image,
    /// Those of captions.
    Text,
}

impl From<KindFlag> for Kind {
    fn from(flag: KindFlag) -> Self {
        match flag {
            KindFlag::Image => Self::Image,
            KindFlag::Text => Self::Text,
        }
    }
}

fn cosine(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(cosine) if (-1.0..=1.0).contains(&cosine) => Ok(cosine),
        _ => Err("expected a number from -1 to 1".into()),
    }
}
