//! How data sets are read.

use std::path::PathBuf;

use clap::Args;
use openclip_data::image::Limits;
use openclip_data::source::csv::CsvFormat;
use openclip_data::source::open::OpenOptions;

/// Column of captions that OpenCLIP expects.
pub const CAPTION_COLUMN: &str = "title";

/// The form of captioned pictures on disk.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data format")]
pub struct DataFormatArgs {
    /// webdataset (tar shards), csv, synthetic, or auto, which goes by the name's extension
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    pub dataset_type: String,
    /// The character between the columns of a CSV file; \t is a tab
    #[arg(long, value_name = "CHAR", default_value = "\\t")]
    pub csv_separator: String,
    /// The CSV column that holds paths of pictures
    #[arg(long, value_name = "COLUMN", default_value = "filepath")]
    pub csv_img_key: String,
    /// The CSV column that holds captions [default: title]
    #[arg(long, value_name = "COLUMN")]
    pub csv_caption_key: Option<String>,
}

impl DataFormatArgs {
    /// The column of captions.
    pub fn caption_column(&self) -> &str {
        self.csv_caption_key.as_deref().unwrap_or(CAPTION_COLUMN)
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
                image_column: self.csv_img_key.clone(),
                caption_column: Some(self.caption_column().to_owned()),
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
    /// Threads that read and decode pictures; as many as there are cores is a good start
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = zero_is_one)]
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
fn zero_is_one(text: &str) -> Result<usize, String> {
    Ok(most_workers(text)?.max(1))
}

/// A number of threads.
pub fn most_workers(text: &str) -> Result<usize, String> {
    count(text, MOST_WORKERS)
}

/// What a model is measured on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Validation data")]
pub struct ValidationArgs {
    /// Captioned pictures for retrieval: a CSV file, or tar shards such as 'val-{000..009}.tar'
    #[arg(long, value_name = "DATA")]
    pub val_data: Option<String>,
    /// How many pairs --val-data has, for the progress display of shards and the size of synthetic data
    #[arg(long, value_name = "N")]
    pub val_num_samples: Option<u64>,
    /// ImageNet's validation pictures, one folder per class, for zero-shot accuracy
    #[arg(long, value_name = "DIR")]
    pub imagenet_val: Option<PathBuf>,
}
