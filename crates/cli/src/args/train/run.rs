//! Data, run folder, checkpoints, logging.

use std::path::PathBuf;

use clap::Args;

/// What to train on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Training data")]
pub struct TrainDataArgs {
    /// Captioned pictures: a CSV file, or tar shards such as 'shards/{00000..00331}.tar'; `::` joins several
    #[arg(long, value_name = "DATA")]
    pub train_data: Option<String>,
    /// Samples in an epoch; needed for shards without sizes.json beside them, and for synthetic data
    #[arg(long, value_name = "N")]
    pub train_num_samples: Option<u64>,
    /// Draw shards with replacement, so that an epoch may have any length
    #[arg(long)]
    pub dataset_resampled: bool,
    /// Share of samples, 0 to 1, that may be unreadable or incomplete before the run fails; looked at after 1,000 samples
    ///
    /// They are passed over, counted by reason and told. An error names the most frequent reasons and an example of each.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub max_skip: f64,
    /// How often the parts of --train-data are drawn, such as 1::3; needs --dataset-resampled
    ///
    /// Where all parts are tar shards, a factor weighs each shard of its part: a part's share is its factor times its number of shards,
    /// as in OpenCLIP. Parts of any other kind are drawn by their factor times their number of samples.
    #[arg(long, value_name = "A::B")]
    pub train_data_upsampling_factors: Option<String>,
}

/// Where a run is kept and how it is watched.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Run folder, checkpoints and logs")]
pub struct RunArgs {
    /// Flags from a file, such as those in configs/train/; flags given here win
    ///
    /// A key is a flag's name, with `-` or `_`: batch-size = 128, lock-image = true, image-mean = [0.5, 0.5, 0.5],
    /// aug-cfg = { scale = [0.4, 1.0] }. --lock-image=false takes back a switch of the file.
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Say what the run would need – memory, exchange between ranks, largest batch – and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Memory of a device in GiB, for --dry-run to find the largest --batch-size
    #[arg(long, value_name = "GIB", requires = "dry_run")]
    pub device_memory: Option<f64>,
    /// Number of ranks, up to 1024, that --dry-run reckons with
    #[arg(long, value_name = "N", requires = "dry_run", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub world_size: u64,
    /// The folder of all runs; none keeps nothing: no checkpoint, no log, no metric
    #[arg(long, value_name = "DIR", default_value = "./logs/")]
    pub logs: PathBuf,
    /// Name of this run, a folder under --logs [default: date, model and main settings]
    #[arg(long)]
    pub name: Option<String>,
    /// Go on from a checkpoint folder, the newest of the run (`latest`), one in an object store (s3://, gs://, file://), or
    /// OpenCLIP's epoch_K.pt
    ///
    /// OpenCLIP's file brings weights, epoch and AdamW's moments; the flags that freeze towers have to be those of its run. Where
    /// an epoch has another number of steps than before, the schedule goes on at the same epoch and the same share of it.
    #[arg(long, value_name = "DIR|latest|URL|FILE")]
    pub resume: Option<String>,
    /// Epochs between checkpoints; the last epoch is always saved, 0 saves it alone
    #[arg(long, value_name = "EPOCHS", default_value_t = 1)]
    pub save_frequency: u64,
    /// Steps between further checkpoints within an epoch; for epochs that take hours
    #[arg(long, value_name = "STEPS")]
    pub save_every_n_steps: Option<u64>,
    /// Minutes between further checkpoints within an epoch, whatever the steps take
    #[arg(long, value_name = "MINUTES")]
    pub save_every_minutes: Option<f64>,
    /// Keep the end of every epoch as the checkpoint `latest`, whatever --save-frequency says
    #[arg(long)]
    pub save_most_recent: bool,
    /// Keep only the newest checkpoint of an epoch's end, and only the newest within epochs
    #[arg(long)]
    pub delete_previous_checkpoint: bool,
    /// Keep the newest N checkpoints within epochs; those of epochs' ends stay
    #[arg(long, value_name = "N")]
    pub keep_last: Option<usize>,
    /// Keep the checkpoint with the best METRIC as `best`, such as image_to_text_R@1 or imagenet-zeroshot-val-top1
    #[arg(long, value_name = "METRIC")]
    pub keep_best: Option<String>,
    /// Copy the run folder to s3://BUCKET/PATH, gs://BUCKET/PATH or a folder, under --name, while the run goes on
    ///
    /// A store that fails never stops the run. With --resume latest the run goes on from the newest complete checkpoint of both
    /// places. Keys come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL, or
    /// GOOGLE_APPLICATION_CREDENTIALS. Nothing is removed there, so that --delete-previous-checkpoint keeps local disks small.
    #[arg(long, value_name = "URL|DIR")]
    pub remote_sync: Option<String>,
    /// Seconds between copies
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub remote_sync_frequency: u64,
    /// Steps between lines of progress
    #[arg(long, value_name = "STEPS", default_value_t = 100)]
    pub log_every_n_steps: u64,
    /// Further reports: wandb, tensorboard, which is always written, or all
    ///
    /// wandb writes an offline run of Weights & Biases into the run's folder; `wandb sync` sends it. A resumed run is another
    /// run of the same group.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub report_to: String,
    /// Project of Weights & Biases
    #[arg(long, value_name = "NAME", default_value = "open-clip")]
    pub wandb_project_name: String,
    /// Notes for Weights & Biases
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub wandb_notes: String,
    /// Stop when this many steps in a row have a loss or gradient that is not a number, or are spikes
    #[arg(long, value_name = "STEPS", default_value_t = 20)]
    pub max_bad_steps: u64,
    /// Pass over steps whose loss or gradient norm is more than so many standard deviations above the mean of the last steps
    ///
    /// Off unless given; 6 lets all but accidents through.
    #[arg(long, value_name = "SIGMAS")]
    pub skip_spikes: Option<f64>,
    /// How many steps --skip-spikes compares with
    #[arg(long, value_name = "STEPS", default_value_t = 200)]
    pub spike_window: usize,
    /// Keep an average of the weights, of which a step leaves this share: 0.9999 for long runs, 0.999 for short ones
    ///
    /// It lies beside the weights of each checkpoint as ema.safetensors, and is what is validated between epochs.
    #[arg(long, value_name = "DECAY")]
    pub ema_decay: Option<f64>,
    /// Train in this process alone, whatever SLURM_NTASKS, WORLD_SIZE and their like say
    ///
    /// For an allocation of several tasks (SLURM_NTASKS=4) in which this command is started once. Processes that are started together need a --name each.
    #[arg(long, help_heading = "Model")]
    pub single_process: bool,
    /// Stop after this many optimizer steps, as if interrupted
    #[arg(long, value_name = "STEPS", hide_short_help = true)]
    pub max_steps: Option<u64>,
}

/// When to validate.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Validation data")]
pub struct FrequencyArgs {
    /// Epochs between retrieval tests; 0 never
    #[arg(long, value_name = "EPOCHS", default_value_t = 1)]
    pub val_frequency: u64,
    /// Epochs between zero-shot tests; 0 never
    #[arg(long, value_name = "EPOCHS", default_value_t = 2)]
    pub zeroshot_frequency: u64,
    /// Class names and templates for --imagenet-val, and for --imagenet-v2 where they are 1,000, as {"classes": […], "templates": […]} [default: ImageNet's]
    #[arg(long, value_name = "FILE.json")]
    pub zeroshot_prompts: Option<PathBuf>,
}
