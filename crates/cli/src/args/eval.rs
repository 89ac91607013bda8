//! `eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use openclip_eval::task::Task;

use super::data::{DataFormatArgs, LoaderArgs, PictureArgs, ValidationArgs, at_least_one};
use super::json::JsonArgs;
use super::model::{ModelsArgs, PreprocessArgs};

/// Flags of `eval`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
--dataset takes, for CLIP_benchmark's tasks and file names:
  a folder with a folder per class    named by classnames.txt, else by the folders; prompts are of
                                      zeroshot_classification_templates.txt, else ImageNet's 80
  tars in CLIP_benchmark's layout     test/0.tar, …: .cls (class), .npy (classes), .txt (captions)
  a CSV file                          pictures, and label, caption, or caption and negative_caption
  COCO, Flickr, Parquet               captions or labels, as Hugging Face has them
Parts are folders (train/, test/) or tables (train.csv, test.csv). Every model meets every set.

Retrieval is measured by two rules, which differ where several rows of --val-data have one picture (the same path):
  image_to_text_*, text_to_image_*             OpenCLIP's: row i matches row i, every other row is wrong
  text_retrieval_recall@K                      CLIP_benchmark's: any caption of the picture is right
  image_retrieval_recall@K                     CLIP_benchmark's: the caption's picture is right
Exit status 1 also says that weights or scores are not finite, or that a set failed.

Examples:
  openclip eval --model ViT-B-32 --pretrained clip.pt --dataset pets/ shop.csv --output results/
  openclip eval --model ViT-B-32 --pretrained clip.pt --suite datacomp --root sets/ --output out/
  openclip eval build results/*.json --output table.csv
  openclip eval --model ViT-B-32 --pretrained clip.pt --val-data val.csv
  openclip eval --model ViT-B-32 --pretrained clip.pt --imagenet-val imagenet/val
  openclip eval --model ViT-B-32 --pretrained clip.pt --json \\
      --zeroshot pets/ --templates templates.txt")]
pub struct EvalArgs {
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<EvalCommand>,
    /// Sets and tasks.
    #[command(flatten)]
    pub sets: SetArgs,
    /// Sets that belong together.
    #[command(flatten)]
    pub suite: SuiteArgs,
    /// Captioned pictures and ImageNet.
    #[command(flatten)]
    pub data: ValidationArgs,
    /// Zero-shot classification of other pictures.
    #[command(flatten)]
    pub zero_shot: ZeroShotArgs,
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
    /// The models.
    #[command(flatten)]
    pub models: ModelsArgs,
    /// Their preprocessing.
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

/// What `eval` does without a model.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Make one table, or picture, of many results
    Build(BuildArgs),
}

/// Flags of `eval build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Results of `openclip eval --output` or of CLIP_benchmark, or folders of them
    #[arg(value_name = "FILE|DIR", required = true)]
    pub results: Vec<PathBuf>,
    /// The table: .csv, .md for Markdown, or .svg for a picture
    #[arg(long, value_name = "FILE", default_value = "benchmark.csv")]
    pub output: PathBuf,
}

/// The sets, and what to do on them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data sets")]
pub struct SetArgs {
    /// A folder, table or tars, or several; a .txt file lists such, one a line
    #[arg(long, value_name = "PATH|NAME", num_args = 1..)]
    pub dataset: Vec<String>,
    /// Where sets are that are given by name: a folder, or a pattern with {dataset}, or {dataset_cleaned} with - for /
    #[arg(long, value_name = "DIR", requires = "dataset")]
    pub dataset_root: Option<String>,
    /// zeroshot_classification, zeroshot_retrieval, linear_probe, captioning, image_caption_selection, finetuned_classification
    /// (by the head.safetensors of `openclip finetune`), or auto, which goes by what a set has
    #[arg(long, value_name = "TASK", default_value = "auto", value_parser = task)]
    pub task: TaskFlag,
    /// Where results go, as {dataset}_{pretrained}_{model}_{language}_{task}.json in CLIP_benchmark's schema
    ///
    /// A name that ends in .json is such a pattern itself. Without it results are printed alone.
    #[arg(long, value_name = "DIR")]
    pub output: Option<String>,
    /// Leave out what --output has already
    #[arg(long, requires = "output")]
    pub skip_existing: bool,
    /// The part of each set that is measured
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub split: String,
    /// Every K of Recall@K in retrieval
    #[arg(long, value_name = "K", num_args = 1.., default_value = "5", value_parser = at_least_one)]
    pub recall_k: Vec<usize>,
    /// Linear probe: the part that the classifier is trained on
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub train_split: String,
    /// Linear probe: the part that the weight decay is chosen by; without it, or --val-proportion, it is zero
    #[arg(long, value_name = "NAME", conflicts_with = "val_proportion")]
    pub val_split: Option<String>,
    /// Linear probe: the share of the training part that takes its place, such as 0.1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub val_proportion: Option<f64>,
    /// Linear probe: pictures of each class to train on; -1 for all
    #[arg(long, value_name = "K", default_value = "-1", value_parser = shots, allow_negative_numbers = true)]
    pub fewshot_k: Shots,
    /// Linear probe: the learning rate, from which a cosine falls to zero
    #[arg(long, value_name = "RATE", default_value_t = 0.1)]
    pub fewshot_lr: f64,
    /// Linear probe: passes over the training part
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    pub fewshot_epochs: usize,
    /// Linear probe: where the features of pictures are kept for another one [default: features in --output]
    #[arg(long, value_name = "DIR")]
    pub feature_root: Option<PathBuf>,
    /// Linear probe: seed of first weights, order and choice of pictures
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The language that results are noted under
    #[arg(long, value_name = "LANGUAGE", default_value = "en")]
    pub language: String,
}

/// Sets that belong together.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Suite of data sets")]
pub struct SuiteArgs {
    /// Measure the sets of a suite by their own metrics: datacomp, DataComp's 38, or a .toml file in the form of its list
    ///
    /// Sets that are not there are named, results that are in --output are not made again, and the averages are printed.
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["dataset", "val_data", "imagenet_val", "imagenet_v2", "zeroshot"])]
    pub suite: Option<String>,
    /// The folder of its sets, each as wds_NAME_test, wds_NAME or NAME [default: the current one]
    #[arg(long, value_name = "DIR", requires = "suite")]
    pub root: Option<PathBuf>,
    /// Copy sets that are not there from the hub to --root
    #[arg(long, requires = "suite")]
    pub download: bool,
}

/// A value of `--task`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskFlag(
    /// `None` is `auto`.
    pub Option<Task>,
);

/// A value of `--fewshot-k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shots(
    /// `None` is all pictures.
    pub Option<usize>,
);

fn shots(text: &str) -> Result<Shots, String> {
    match text {
        "-1" => Ok(Shots(None)),
        text => Ok(Shots(Some(at_least_one(text)?))),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    match share > 0.0 && share < 1.0 {
        true => Ok(share),
        false => Err("expected a share between 0 and 1".into()),
    }
}

fn task(name: &str) -> Result<TaskFlag, String> {
    match name {
        "auto" => Ok(TaskFlag(None)),
        name => Ok(TaskFlag(Some(name.parse()?))),
    }
}

/// Zero-shot classification of labelled pictures.
#[derive(Debug, Args)]
#[command(next_help_heading = "Zero-shot data")]
pub struct ZeroShotArgs {
    /// Labelled pictures, one folder per class
    #[arg(long, value_name = "DIR")]
    pub zeroshot: Option<PathBuf>,
    /// Class names in the order of the sorted folders: one a line, or JSON
    ///
    /// Without it the folders' names are the classes' names.
    #[arg(long, value_name = "FILE", requires = "zeroshot")]
    pub classes: Option<PathBuf>,
    /// Prompt templates with {} where the class name goes: one a line, or JSON [default: ImageNet's 80]
    #[arg(long, value_name = "FILE", requires = "zeroshot")]
    pub templates: Option<PathBuf>,
}
