//! One rank of a run, from its configuration to its last checkpoint.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use burn::module::Module;
use burn::train::metric::LearningRateMetric;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use openclip_data::error::panic_message;
use openclip_data::tokenizer;
use openclip_eval::{Encoder, written};
use openclip_model::hub::CacheDirs;
use openclip_model::{device, registry};

use super::resume::{self, Search};
use super::{advice, learning, params, setup};
use crate::checkpoint::{self, CHECKPOINTS, Saver, Saving};
use crate::comm::Communicator;
use crate::data::Steps;
use crate::facts::ModelFacts;
use crate::guard::Guard;
use crate::journal::{self, Journal, JournalOptions};
use crate::remote;
use crate::renderer::{NoMetricLog, NoRenderer, StepMetric};
use crate::schedule::StepSchedule;
use crate::strategy::{Driver, Run};
use crate::task::{Setup, Task};
use crate::{TrainConfig, TrainError, finetune};

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The run folder; the empty path with `--logs none`.
    pub run: PathBuf,
    /// Which rank this is: the first one speaks for all.
    pub rank: usize,
    /// The newest complete checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// The run was stopped on request before its end, with a checkpoint.
    pub stopped: bool,
}

/// What a rank is given beside the flags.
pub(super) struct RankContext {
    pub ranks: Arc<dyn Communicator>,
    /// Shared by the ranks of a process.
    pub stop: Arc<AtomicBool>,
    /// Whether it listens to signals for its process.
    pub listens: bool,
    /// Whether `--precision` was left to the device.
    pub precision_by_default: bool,
}

impl RankContext {
    /// The only one of its process.
    pub fn new(ranks: Arc<dyn Communicator>, precision_by_default: bool) -> Self {
        Self {
            ranks,
            stop: Arc::default(),
            listens: true,
            precision_by_default,
        }
    }
}

/// The whole of one rank. `config` has a name, one device and a precision.
pub(super) fn one_rank(config: TrainConfig, context: RankContext) -> Result<Outcome, TrainError> {
    let RankContext {
        ranks,
        stop,
        listens,
        precision_by_default,
    } = context;
    let (rank, world_size) = (ranks.rank(), ranks.world_size());
    let optim = setup::optim(&config)?;
    let layer_decay = setup::layer_decay(&config)?;
    let trains = config.train_data.is_some() || config.dataset_type == "synthetic";
    let run_dir = config.run_dir();
    let is_kept = run_dir.is_some();
    let dir = run_dir.unwrap_or_default();
    let Search {
        resumed,
        passed_over,
        nothing,
    } = resume::find_checkpoint(&config, &dir, ranks.as_ref())?;
    let interactive = trains && is_kept && ranks.is_first() && is_interactive();

    // Everything that a flag can get wrong comes before the run folder, so that the next try finds its name free.
    let device = device::parse(&config.device)?;
    config.precision().check(&device, trains)?;
    let mut loaded = setup::load_model(&config, &device, resumed.as_ref())?;
    loaded.warnings.extend(config.precision().caution(&device));
    let classes = config
        .finetune
        .is_some()
        .then(|| finetune::classes(&config));
    let classes = classes.transpose()?;
    let objective = learning::objective(&config, &loaded)?;
    let lock = learning::lock(&config);
    for (tower, groups) in lock.idle(&loaded.model) {
        loaded.warnings.push(format!(
            "--lock-{tower} locks nothing: all {groups} groups of the tower are left unlocked"
        ));
    }
    let frozen = lock.frozen(&loaded.model);
    loaded.model = lock.apply(loaded.model);
    learning::computation(&config, &mut loaded, &ranks)?;
    let teacher = learning::teacher(&config, &loaded, &device)?;
    let caches = CacheDirs::new(config.cache_dir.as_deref());
    let model_dir = registry::local_dir(&config.model);
    let tokenizer = tokenizer::for_model_in(&loaded.config, model_dir, &caches)?;
    let (height, width) = loaded.config.vision_cfg.image_size.dims();
    let image_size = [height, width];
    let compute = config.precision().compute();
    let mut encoder = Encoder::of(&loaded, &device, compute);
    let tuned = classes
        .as_ref()
        .map(|set| {
            let with = (&encoder, tokenizer.as_ref());
            let resumed = resumed.as_ref().map(|resumed| resumed.path.as_path());
            finetune::start(&config, set, &mut loaded, with, resumed)
        })
        .transpose()?;
    let validation = setup::open_validation(&config, !interactive)?;
    if ranks.is_first() {
        setup::check_validation(&config, &validation, &encoder, &tokenizer)?;
    }
    if let Some(set) = &classes {
        finetune::check_sets(set, &validation.zero_shot)?;
    }
    let training = trains
        .then(|| {
            let tokenizer = written(&loaded.model, Arc::clone(&tokenizer));
            let filter = loaded.preprocess.interpolation;
            let classes = classes.as_ref();
            setup::open_training(
                &config,
                image_size,
                filter,
                &tokenizer,
                classes,
                ranks.as_ref(),
                &device,
            )
        })
        .transpose()?;
    let mut start = resumed
        .as_ref()
        .map(|resumed| resumed.progress.clone())
        .unwrap_or_default();
    let (mut change, mut moments) = (None, None);
    match (&training, &resumed) {
        (None, _) => {}
        (Some((steps, _)), None) => start.shape = Some(steps.shape()),
        (Some((steps, _)), Some(resumed)) => {
            (start, change) = resumed.place(steps);
            let differs;
            (moments, differs) = resumed.optimizer(&loaded.model, &frozen, &optim)?;
            loaded.warnings.extend(differs);
        }
    }
    let start = start.of_rank(rank, world_size);
    let (average, missing) = match ranks.is_first() {
        true => setup::average(&config, &loaded, resumed.as_ref())?,
        false => (None, None),
    };
    loaded.warnings.extend(missing);

    let store = match ranks.is_first() {
        true => resume::remote_store(&config)?,
        false => None,
    };
    let every = Duration::from_secs(config.remote_sync_frequency);
    let copies = |store| {
        let copies = remote::Sync::start(store, dir.clone(), every);
        copies.map_err(|source| TrainError::Write {
            path: dir.clone(),
            source,
        })
    };

    // The folder is made when every rank has come so far, and no rank goes on unless it is made.
    ranks.barrier()?;
    let mut journal = Journal::silent();
    if ranks.is_first() && !is_kept {
        journal = Journal::unkept();
        journal.warn("--logs none: no checkpoint, metric or log of this run is kept");
    } else if ranks.is_first() {
        prepare_dir(&config, &dir)?;
        let resumed_at = resumed.is_some().then_some(start.step);
        let title = dir.file_name().unwrap_or_default();
        let options = JournalOptions {
            title: title.to_string_lossy().into_owned(),
            loss: match tuned {
                Some(_) => "cross-entropy".into(),
                None => objective.describe(),
            },
            tensorboard: config.report_to != "none",
            echo: !interactive,
            resumed_at,
        };
        journal = Journal::open(&dir, options)?;
        if config.reports_to("wandb") {
            journal.report_to(setup::wandb(&config, &dir, resumed_at));
        }
    }
    journal.loads_with(config.workers);
    ranks.barrier()?;
    for error in passed_over {
        journal.warn(format!("{error}; it is passed over"));
    }
    if let Some(nothing) = nothing {
        journal.info(nothing);
    }
    for warning in std::mem::take(&mut loaded.warnings) {
        journal.warn(warning);
    }
    if ranks.is_first() && is_kept {
        params::warn_of_changes(&config, &dir, resumed.is_some(), &mut journal);
        params::write(&config, &dir)?;
    }
    let numel: usize = openclip_model::params::describe(&loaded.model)
        .iter()
        .filter(|param| param.is_parameter())
        .map(|param| param.numel())
        .sum();
    journal.info(format!(
        "{}: {:.1} M parameters on {}, {}{}",
        loaded.name,
        numel as f64 / 1e6,
        config.device,
        config.precision().name(),
        match precision_by_default {
            true => ", the default there",
            false => "",
        },
    ));
    let Some((steps, schedule)) = training else {
        if ranks.is_first() {
            if let Some(average) = average {
                encoder.set_model(&average.model);
            }
            let measured = validation.run(&encoder, &tokenizer, config.asked())?;
            journal.evaluation(start.epoch, start.step, &measured.metrics);
            journal.settle();
            if let Some(store) = store {
                copies(store)?.finish(&mut journal);
            }
            journal.finish();
        }
        return Ok(Outcome {
            run: dir,
            rank,
            checkpoint: None,
            stopped: false,
        });
    };
    journal.info(format!(
        "{}: {} epochs of {} steps of {} samples",
        steps.source.describe(),
        config.epochs,
        steps.steps_per_epoch,
        steps.step_samples(),
    ));
    if world_size > 1 {
        journal.info(format!("{world_size} ranks"));
    }
    let batch = steps.step_samples();
    for line in advice::idle_settings(
        &config,
        steps.source.as_ref(),
        &loaded.model,
        &frozen,
        &objective,
        &schedule,
        batch,
    ) {
        journal.warn(line);
    }
    if let Some(resumed) = &resumed {
        let step = start.position(steps.steps_per_epoch);
        journal.info(format!(
            "Resumed from {} at step {step} of {}",
            resumed.path.display(),
            schedule.total
        ));
        let before = start.cursors.len().max(1);
        if before != world_size && start.step_in_epoch > 0 {
            journal.warn(format!(
                "saved by {before} ranks, resumed by {world_size}: the rest of the epoch comes in another order"
            ));
        }
    }
    if let Some(change) = change {
        journal.warn(change);
    }
    let nothing_left = resume::nothing_left(&config, &start);
    if let Some(nothing_left) = &nothing_left {
        journal.warn(nothing_left);
    }

    let facts = ModelFacts::of(&loaded);
    let setup = Setup {
        device: device.clone().autodiff(),
        compute,
        preprocess: loaded.preprocess.clone(),
        grad_clip_norm: setup::grad_clip_norm(&config, &optim),
        seed: config.seed,
    };
    let head = tuned.as_ref().map(|tuned| tuned.head.weight.id);
    let optimizer = optim.optimizer_with(&loaded.model, head);
    if let Some(pattern) = optim.idle_pattern(&loaded.model) {
        journal.warn(format!(
            "--wd-exclude {pattern}: no parameter has such a name"
        ));
    }
    let schedule = StepSchedule {
        schedule,
        step: start.position(steps.steps_per_epoch),
        skip: config.skip_scheduler,
        scale: 1.0,
    };
    let scheduler = layer_decay.scheduler(&loaded.model, schedule);
    let guard = Guard::new(setup::rules(&config), start.guard.clone());
    let mut task = Task::new(loaded.model.train(), setup)
        .with_guard(guard)
        .with_ema(average)
        .with_objective(objective)
        .with_ranks(Arc::clone(&ranks))
        .with_teacher(teacher.map(Arc::new));
    if let Some(tuned) = tuned {
        journal.info(tuned.said);
        task = task.with_head(tuned.head.train(), tuned.smoothing, tuned.adapters);
    }
    let mut learner = Learner::new(task, optimizer, scheduler);
    if let Some(record) = moments {
        learner.load_optim(record);
    }

    let remote = store.map(copies).transpose()?;

    if listens {
        listen(&stop)?;
    }
    let run = Run {
        ranks,
        facts,
        saver: Saver::new(
            dir.join(CHECKPOINTS),
            Saving::from(&config),
            resumed.map(|resumed| resumed.path),
        ),
        steps_per_epoch: steps.steps_per_epoch,
        position: Arc::clone(&steps.position),
        stats: Arc::clone(&steps.stats),
        stop,
        validation,
        tokenizer,
        encoder,
        journal,
        remote,
        is_finite: true,
        stopped: nothing_left.is_some() && start.epoch < config.epochs,
        progress: start,
        config,
    };
    launch(run, learner, steps, &dir, interactive)
}

/// Hands the loop to Burn's `SupervisedTraining` and collects what came of it.
fn launch(
    run: Run,
    learner: Learner<Task>,
    steps: Steps,
    dir: &Path,
    interactive: bool,
) -> Result<Outcome, TrainError> {
    let epochs = run.config.epochs as usize;
    let driver = Arc::new(Driver::new(run));
    let steps = Arc::new(steps);
    let mut training = SupervisedTraining::new(dir, steps.clone(), steps)
        .num_epochs(epochs)
        .with_application_logger(None)
        .with_metric_logger(NoMetricLog)
        .with_training_strategy(TrainingStrategy::Custom(driver.clone()))
        .metric_train_numeric(StepMetric::new("Loss", false, |figures| figures.loss))
        .metric_train_numeric(StepMetric::new("Logit scale", true, |figures| {
            figures.logit_scale
        }))
        .metric_train_numeric(StepMetric::new("Gradient norm", false, |figures| {
            figures.grad_norm
        }))
        .metric_train_numeric(StepMetric::new("Samples per second", true, |figures| {
            figures.samples as f64 / figures.batch_time
        }))
        .metric_train_numeric(StepMetric::new("Data wait (%)", false, |figures| {
            100.0 * figures.data_time / figures.batch_time
        }))
        .metric_train_numeric(LearningRateMetric::new());
    if !interactive {
        training = training.renderer(Box::new(NoRenderer));
    }
    // A device that runs out of memory, or loses its driver, panics inside Burn.
    let result = catch_unwind(AssertUnwindSafe(|| training.launch(learner)));
    let (run, ended) = driver.finish();
    ended?;
    match result {
        Err(panic) => Err(match panic.downcast::<TrainError>() {
            Ok(error) => *error,
            Err(panic) => TrainError::Learner(panic_message(panic.as_ref())),
        }),
        Ok(result) => match (result.error, run) {
            (Some(error), _) => Err(TrainError::Learner(error.to_string())),
            (None, None) => Err(TrainError::Learner("training never began".into())),
            (None, Some(mut run)) => {
                run.journal.finish();
                Ok(Outcome {
                    run: dir.to_owned(),
                    rank: run.ranks.rank(),
                    checkpoint: run.saver.newest().map(Path::to_owned),
                    stopped: run.stopped,
                })
            }
        },
    }
}

/// SIGINT and SIGTERM ask for a stop; the second one ends the process at once.
fn listen(stop: &Arc<AtomicBool>) -> Result<(), TrainError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .map_err(|error| TrainError::Learner(format!("cannot listen for signals: {error}")))?;
    }
    Ok(())
}

fn is_interactive() -> bool {
    use std::io::IsTerminal;
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && std::io::stderr().is_terminal() && !dumb
}

fn prepare_dir(config: &TrainConfig, dir: &Path) -> Result<(), TrainError> {
    if dir.join(journal::LOG).exists() && config.resume.is_none() {
        return Err(TrainError::Exists(dir.to_owned()));
    }
    let path = dir.join(CHECKPOINTS);
    checkpoint::sweep(&path);
    fs::create_dir_all(&path).map_err(|source| TrainError::Write { path, source })
}
