//! How data sets are read.

use std::path::PathBuf;

use clap::{ArgAction, Args, Command, FromArgMatches};
use openclip_data::image::Limits;
use openclip_data::loader::default_workers;
use openclip_data::source::columns::Columns;
use openclip_data::source::csv::CsvFormat;
use openclip_data::source::keys::{IMAGE_KEY, KeyOptions};
use openclip_data::source::open::OpenOptions;
use serde::{Deserialize, Serialize};

/// The form of captioned pictures on disk.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Data format")]
pub struct DataFormatArgs {
    /// webdataset (tar shards), csv, parquet, arrow, coco, flickr, folder, synthetic, or auto, which goes by the name
    ///
    /// parquet and arrow files hold pictures, as Hugging Face's data sets and img2dataset have them, or their paths or addresses. coco
    /// reads annotations/captions_*.json and Karpathy's dataset_coco.json#SPLIT; flickr reads results_20130124.token, captions.txt and
    /// Karpathy's; folder takes pictures with a .txt beside each. A folder is known by what lies in it.
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    pub dataset_type: String,
    /// The character between the columns of a CSV file; \t is a tab
    #[arg(long, value_name = "CHAR", default_value = "\\t")]
    pub csv_separator: String,
    /// The column of pictures, or of their paths or addresses, in a CSV, Parquet or Arrow file
    ///
    /// By default the first there is of filepath, image, jpg, url, path and file_name in a CSV file, where a path starts in the current
    /// directory or beside the file; in others of image, jpg, filepath, url, path and file_name.
    #[arg(long, value_name = "COLUMN")]
    pub csv_img_key: Option<String>,
    /// The column of captions
    ///
    /// By default the first there is of title, caption and text in a CSV file, in others of caption, text and title.
    #[arg(long, value_name = "COLUMN")]
    pub csv_caption_key: Option<String>,
    /// Suffixes of the members of shards that hold pictures; where a sample has several, the first listed is taken
    #[arg(long, value_name = "A;B", default_value = IMAGE_KEY)]
    pub image_key: String,
    /// Suffixes of the members of shards that hold captions, such as 'txt;caption' [default: txt, else the `caption` of a .json]
    #[arg(long, value_name = "A;B")]
    pub text_key: Option<String>,
    /// Fields of the .json members of shards that hold captions, in place of --text-key: the first with a text is taken
    #[arg(long, value_name = "A;B")]
    pub json_text_key: Option<String>,
    /// Weights by which the fields of --json-text-key are drawn for each sample, such as 0.7 0.3
    ///
    /// They need not add up to 1. A field without weight is taken where the others have no text. What is drawn depends on seed, epoch
    /// and sample alone.
    #[arg(long, value_name = "WEIGHT", num_args = 1.., action = ArgAction::Set)]
    pub json_text_key_probs: Vec<f64>,
}

impl DataFormatArgs {
    /// What stands there where no flag is given.
    pub fn unasked() -> Result<Self, clap::Error> {
        let command = Self::augment_args(Command::new("")).no_binary_name(true);
        let none: [&str; 0] = [];
        Self::from_arg_matches(&command.try_get_matches_from(none)?)
    }

    /// The character between columns.
    pub fn separator(&self) -> String {
        match self.csv_separator.as_str() {
            "\\t" => "\t".to_owned(),
            separator => separator.to_owned(),
        }
    }

    /// For [`openclip_data::source::open::open`]; `num_samples` is the size of a synthetic set.
    pub fn options(&self, num_samples: Option<u64>) -> OpenOptions {
        OpenOptions {
            dataset_type: self.dataset_type.clone(),
            csv: CsvFormat {
                separator: self.separator(),
                columns: Columns {
                    image: self.csv_img_key.clone(),
                    caption: self.csv_caption_key.clone(),
                    needs_captions: true,
                    carried: false,
                },
            },
            keys: KeyOptions {
                image_key: Some(self.image_key.clone()),
                text_key: self.text_key.clone(),
                json_text_key: self.json_text_key.clone(),
                json_text_key_probs: self.json_text_key_probs.clone(),
                needs_caption: false,
                carried: false,
            },
            num_samples,
            ..OpenOptions::default()
        }
    }
}

/// Which pictures are read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pictures")]
pub struct PictureArgs {
    /// Pictures of more pixels are refused by their header; 0 sets no limit
    ///
    /// The default is Pillow's, a guard against files made to fill the memory. A decoded picture takes 3 to 16 bytes a pixel, and
    /// as many are decoded at a time as there are workers.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_pixels)]
    pub max_image_pixels: usize,
}

impl PictureArgs {
    /// What a picture may cost.
    pub fn limits(&self) -> Limits {
        Limits::new(self.max_image_pixels)
    }
}

/// How much is read at a time.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loading")]
pub struct LoaderArgs {
    /// Pictures that go through the model together; lower it when memory runs out
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    pub batch_size: usize,
    /// Threads that decode pictures, of each rank [default: number of cores]
    #[arg(long, value_name = "N", default_value_t = default_workers(), hide_default_value = true, value_parser = zero_is_one)]
    pub workers: usize,
}

/// Most samples of a batch.
const MOST_SAMPLES: usize = 1 << 24;
/// Most threads that read.
const MOST_WORKERS: usize = 1 << 12;

/// A count of what goes through a model together, which may not be zero.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match count(text, MOST_SAMPLES)? {
        0 => Err("expected at least 1".into()),
        number => Ok(number),
    }
}

/// A count of at most so many.
pub fn count(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > most => Err(format!("expected at most {most}")),
        Ok(number) => Ok(number),
        Err(error) => Err(std::num::ParseIntError::to_string(&error)),
    }
}

/// PyTorch loads in the main process with 0 workers; there is always a thread here.
pub fn zero_is_one(text: &str) -> Result<usize, String> {
    Ok(count(text, MOST_WORKERS)?.max(1))
}

/// What a model is measured on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Validation data")]
pub struct ValidationArgs {
    /// Captioned pictures for retrieval, in any form that --dataset-type names: a CSV file, tar shards such as 'val-{000..009}.tar'
    #[arg(long, value_name = "DATA")]
    pub val_data: Option<String>,
    /// How many pairs --val-data has, for the progress display of shards and the size of synthetic data
    #[arg(long, value_name = "N")]
    pub val_num_samples: Option<u64>,
    /// ImageNet's validation pictures, one folder per class, for zero-shot accuracy
    ///
    /// Folders named by wordnet ids, such as n01440764, get ImageNet's class names. Where they are a part of the 1,000 classes, as in
    /// ImageNet-A, -R and -O, scores are compared among these alone; ImageNet-Sketch has all.
    #[arg(long, value_name = "DIR")]
    pub imagenet_val: Option<PathBuf>,
    /// ImageNet-V2: its folders 0 to 999, or the folder with its matched-frequency pictures in it
    #[arg(long, value_name = "DIR")]
    pub imagenet_v2: Option<PathBuf>,
}
