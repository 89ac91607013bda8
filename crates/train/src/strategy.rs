//! The loop that Burn's `SupervisedTraining` calls: epochs of steps, with checkpoints in mid-epoch, exact resume, a
//! stop on request, and an end after too many bad steps.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::tensor::DType;
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
};
use openclip_data::loader::Stats;
use openclip_data::source::ProblemKind;
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::run::host;
use openclip_eval::validation::Validation;

use crate::checkpoint::{Progress, SavePlan, Saver, Snapshot};
use crate::comm::Communicator;
use crate::data::Position;
use crate::facts::ModelFacts;
use crate::guard::Verdict;
use crate::journal::{Journal, RunStatus, StepFigures};
use crate::loading::Loading;
use crate::memory::MemoryUse;
use crate::step::Step;
use crate::task::{Task, TrainingState};
use crate::{TrainConfig, TrainError, remote};

/// A training run under way.
pub struct Run {
    /// Who trains this model.
    pub ranks: Arc<dyn Communicator>,
    /// Flags.
    pub config: TrainConfig,
    /// What the checkpoints say about the model.
    pub facts: ModelFacts,
    /// Writes checkpoints.
    pub saver: Saver,
    /// Optimizer steps of an epoch.
    pub steps_per_epoch: u64,
    /// Where the run stands.
    pub progress: Progress,
    /// Tells the data loader where to begin.
    pub position: Arc<Mutex<Position>>,
    /// Counters of the data loader.
    pub stats: Arc<Mutex<Stats>>,
    /// Set by a signal: finish the step, save, stop.
    pub stop: Arc<AtomicBool>,
    /// What to measure between epochs.
    pub validation: Validation,
    /// Of the model.
    pub tokenizer: Arc<dyn Tokenizer>,
    /// Feeds the model in validation; its weights are replaced each time.
    pub encoder: Encoder,
    /// Log files.
    pub journal: Journal,
    /// Copies the run folder elsewhere.
    pub remote: Option<remote::Sync>,
    /// Whether the weights gave a finite loss when they were last looked at.
    pub is_finite: bool,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
}

/// [`Run`] as Burn's learning strategy. After the training [`Driver::finish`] gives it back.
pub struct Driver(Mutex<(Option<Run>, Result<(), TrainError>)>);

impl Driver {
    /// A strategy that drives `run`.
    pub fn new(run: Run) -> Self {
        Self(Mutex::new((Some(run), Ok(()))))
    }

    /// The run and how it ended; no run if training never began or panicked.
    pub fn finish(&self) -> (Option<Run>, Result<(), TrainError>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut state, (None, Ok(())))
    }
}

impl SupervisedLearningStrategy<Task> for Driver {
    fn fit(
        &self,
        components: TrainingComponents<Task>,
        mut learner: Learner<Task>,
        train: TrainLoader<Task>,
        _: ValidLoader<Task>,
        _: usize,
    ) -> (Task, SupervisedTrainingEventProcessor<Task>) {
        let (run, _) = self.finish();
        let mut processor = components.event_processor;
        if let Some(mut run) = run {
            let mut burn = Burn {
                state: Arc::clone(learner.model().state()),
                learner: &mut learner,
                processor: &mut processor,
                interrupter: &components.interrupter,
            };
            let outcome = run.train(&mut burn, train.as_ref());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Some(run), outcome);
        }
        (learner.model(), processor)
    }
}

/// What Burn gives a strategy to work with.
struct Burn<'a> {
    learner: &'a mut Learner<Task>,
    processor: &'a mut SupervisedTrainingEventProcessor<Task>,
    interrupter: &'a Interrupter,
    state: Arc<Mutex<TrainingState>>,
}

impl Burn<'_> {
    fn tell(&mut self, event: LearnerEvent<StepFigures>) {
        let told = self.processor.process_train(event);
        self.interrupter.fail_on_error(told);
    }

    fn with_state<T>(&self, read: impl FnOnce(&mut TrainingState) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is known of a step before it is taken.
struct StepPlan {
    /// Its number in the run, from one.
    number: u64,
    /// It is the last of its epoch.
    ends_epoch: bool,
    /// The run stops behind it, before its end.
    stops: bool,
    /// What to save of it.
    checkpoint: Option<SavePlan>,
}

impl Run {
    fn train(
        &mut self,
        burn: &mut Burn<'_>,
        train: &dyn DataLoader<Step>,
    ) -> Result<(), TrainError> {
        let ended = self.epochs(burn, train);
        let saved = self.saver.finish(&mut self.journal);
        // What is copied for the last time is complete.
        self.journal.settle();
        if let Some(remote) = self.remote.take() {
            remote.finish(&mut self.journal);
        }
        ended.and(saved)
    }

    fn epochs(
        &mut self,
        burn: &mut Burn<'_>,
        train: &dyn DataLoader<Step>,
    ) -> Result<(), TrainError> {
        while self.progress.epoch < self.config.epochs && !self.stopped {
            let epoch_number = self.progress.epoch as usize + 1;
            let total_items = train.num_items();
            burn.tell(LearnerEvent::StartSplit {
                epoch_number,
                total_items,
            });
            self.epoch(burn, train)?;
            burn.tell(LearnerEvent::EndSplit(epoch_number));
        }
        self.journal.plot();
        Ok(())
    }

    /// The rest of the current epoch, or up to the step at which the run is stopped.
    fn epoch(
        &mut self,
        burn: &mut Burn<'_>,
        train: &dyn DataLoader<Step>,
    ) -> Result<(), TrainError> {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Position {
            epoch: self.progress.epoch,
            cursor: self.progress.cursor,
            step_in_epoch: self.progress.step_in_epoch,
            step: self.progress.step,
        };
        let mut steps = train.iter();
        let mut started = Instant::now();
        let mut next = steps.next();
        let mut waited = started.elapsed();
        while let Some(step) = next.take() {
            let step = step.map_err(|error| TrainError::Learner(error.to_string()))?;
            let plan = self.plan(burn)?;
            let probe = self.probe(&step, &plan);
            let progress = steps.progress();
            let ahead = || {
                let asked = Instant::now();
                next = steps.next();
                waited += asked.elapsed();
            };
            let mut figures = self.take(burn, step, &plan, ahead)?;
            figures.data_time = std::mem::take(&mut waited).as_secs_f64();
            figures.batch_time = started.elapsed().as_secs_f64();
            started = Instant::now();

            self.log(burn, figures, &plan);
            let lr = Some(burn.learner.lr_current());
            let item = TrainingItem::new(figures, progress, Some(figures.step as usize), lr);
            burn.tell(LearnerEvent::ProcessedItem(item));
            self.check(burn, &figures)?;
            if plan.ends_epoch {
                self.progress.epoch += 1;
                self.progress.step_in_epoch = 0;
                self.progress.samples_in_epoch = 0;
                self.progress.cursor = 0;
            }
            self.keep(burn, plan.checkpoint, probe)?;
            if plan.stops {
                self.stopped = true;
                break;
            }
        }
        drop(steps);
        self.report_problems()?;
        if self.progress.step_in_epoch == 0 {
            self.evaluate(burn.learner)?;
        } else if !self.stopped {
            return Err(TrainError::Learner(
                "the training data ended in mid-epoch".into(),
            ));
        }
        Ok(())
    }

    fn plan(&self, burn: &Burn<'_>) -> Result<StepPlan, TrainError> {
        let number = self.progress.step + 1;
        let ends_epoch = self.progress.step_in_epoch + 1 == self.steps_per_epoch;
        let ends_run = ends_epoch && self.progress.epoch + 1 == self.config.epochs;
        let wanted = self.stop.load(Relaxed)
            || burn.interrupter.should_stop()
            || self.config.max_steps.is_some_and(|most| number >= most);
        let stops = self.ranks.any(wanted)? && !ends_run;
        let epoch = ends_epoch.then_some(self.progress.epoch + 1);
        let last = ends_run || stops;
        Ok(StepPlan {
            number,
            ends_epoch,
            stops,
            checkpoint: self.saver.plan(number, epoch, self.is_overdue()?, last),
        })
    }

    /// What to try weights on that no step of the run follows soon: the last micro-batch.
    fn probe(&self, step: &Step, plan: &StepPlan) -> Option<Step> {
        let last = plan.ends_epoch || plan.checkpoint.as_ref().is_some_and(SavePlan::is_last);
        (last && self.ranks.is_first()).then(|| Step {
            batches: step.batches.last().cloned().into_iter().collect(),
            index: step.index,
        })
    }

    /// One step of the optimizer, and how far the run is behind it; times are left out. `ahead` is called when the device has been
    /// given the step and nothing is asked of it yet: what it sends there comes while the device computes.
    fn take(
        &mut self,
        burn: &mut Burn<'_>,
        step: Step,
        plan: &StepPlan,
        ahead: impl FnOnce(),
    ) -> Result<StepFigures, TrainError> {
        let batches = || step.batches.iter().map(|uploaded| &uploaded.batch);
        let samples: usize = batches().map(|batch| batch.size).sum();
        let samples = samples * self.ranks.world_size();
        let loading = Loading::of(batches());
        let cursor = batches().next_back().map(|batch| batch.cursor);
        let keep_optimizer = plan.checkpoint.is_some() && self.ranks.is_first();
        burn.with_state(|state| state.keep_optimizer = keep_optimizer);

        let output = burn.learner.train_step(step);
        if !plan.stops {
            ahead();
        }
        burn.learner.lr_step();
        burn.learner.optimizer_step(output.grads);

        let scale = burn.learner.model().clip.logit_scale.val().inner();
        let scale = host(scale.cast(DType::F32).exp())?;
        let lr = burn.learner.lr_current().base();
        let task_of_captions = self.config.finetune.is_none();
        let figures = burn.with_state(|state| StepFigures {
            step: plan.number,
            epoch: self.progress.epoch,
            loss: state.losses.total,
            contrastive_loss: task_of_captions.then_some(state.losses.contrastive),
            distill_loss: state.losses.distill,
            caption_loss: state.losses.caption,
            lr,
            logit_scale: scale.first().map_or(f64::NAN, |scale| f64::from(*scale)),
            grad_norm: f64::from(state.grad_norm),
            loss_scale: state.guard.loss_scale(),
            loading,
            samples,
            ..output.item
        });
        self.progress.step = plan.number;
        self.progress.step_in_epoch += 1;
        self.progress.samples_seen += samples as u64;
        self.progress.samples_in_epoch += samples as u64;
        self.progress.cursor = cursor.unwrap_or(self.progress.cursor);
        Ok(figures)
    }

    fn log(&mut self, burn: &Burn<'_>, figures: StepFigures, plan: &StepPlan) {
        let due = (plan.number - 1).is_multiple_of(self.config.log_every_n_steps);
        let status = (due || plan.ends_epoch || plan.stops)
            .then(|| self.status(figures.samples, burn.learner.model().memory()));
        self.journal.step(figures, status);
    }

    /// Tells of a step that was passed over, and ends the run at one too many.
    fn check(&mut self, burn: &Burn<'_>, figures: &StepFigures) -> Result<(), TrainError> {
        let StepFigures {
            step,
            loss,
            grad_norm,
            ..
        } = figures;
        let (verdict, count) = burn.with_state(|state| (state.verdict, state.bad_in_a_row));
        if verdict == Verdict::Taken {
            self.saver.proved(&mut self.journal);
            return Ok(());
        }
        if count > 0 {
            self.saver.doubted();
        }
        let reason = verdict.reason();
        self.journal.warn(format!(
            "step {step}: {reason} (loss {loss}, gradient norm {grad_norm}); step skipped, {count} bad ones in a row"
        ));
        if count < self.config.max_bad_steps {
            return Ok(());
        }
        Err(TrainError::BadSteps {
            count,
            reason,
            checkpoint: self.last_good(),
        })
    }

    /// Hands a checkpoint to the saver where one is due and the weights are good. A stop in a streak of bad steps is saved, since
    /// the streak may be one of the data, and nothing goes for it.
    fn keep(
        &mut self,
        burn: &Burn<'_>,
        checkpoint: Option<SavePlan>,
        probe: Option<Step>,
    ) -> Result<(), TrainError> {
        self.saver.poll(&mut self.journal);
        if let Some(remote) = &self.remote {
            remote.poll(&mut self.journal);
        }
        self.is_finite = probe.is_none_or(|probe| burn.learner.model().is_finite_on(probe));
        let Some(plan) = checkpoint else {
            return Ok(());
        };
        self.progress.guard = burn.with_state(|state| state.guard.memory().clone());
        self.progress.cursors = self.ranks.all_gather_u64(self.progress.cursor)?;
        if !self.ranks.is_first() {
            return Ok(());
        }
        let (optimizer, bad) =
            burn.with_state(|state| (state.optimizer.take(), state.bad_in_a_row));
        let is_good = self.is_finite;
        let (name, step) = (plan.name(), self.progress.step);
        if !is_good && plan.is_last() {
            let checkpoint = self.last_good();
            return Err(TrainError::Diverged { step, checkpoint });
        }
        if !is_good || bad > 0 && !plan.is_last() {
            let reason = match is_good {
                true => format!("{bad} bad steps in a row"),
                false => "the weights give a loss that is not finite".into(),
            };
            let warning = format!("step {step}: checkpoint {name} is not written: {reason}");
            self.journal.warn(warning);
            return Ok(());
        }
        let snapshot = self.snapshot(&burn.learner.model(), optimizer);
        self.saver.save(plan, snapshot, bad == 0, &mut self.journal);
        Ok(())
    }

    /// Whether time alone makes a checkpoint due; the first rank's clock counts.
    fn is_overdue(&self) -> Result<bool, TrainError> {
        let is_overdue = self.ranks.is_first() && self.saver.is_overdue();
        match self.config.save_every_minutes {
            None => Ok(false),
            Some(_) => Ok(self.ranks.any(is_overdue)?),
        }
    }

    /// The newest checkpoint whose weights are good, after waiting for the one under way.
    fn last_good(&mut self) -> Option<PathBuf> {
        self.saver.doubted();
        // The error of the run counts for more than that of a checkpoint.
        let _ = self.saver.finish(&mut self.journal);
        self.saver.good().map(Path::to_owned)
    }

    fn status(&self, samples: usize, memory: MemoryUse) -> RunStatus {
        let samples = samples as u64;
        RunStatus {
            samples: self.progress.step_in_epoch * samples,
            epoch_samples: self.steps_per_epoch * samples,
            steps_left: (self.steps_per_epoch * self.config.epochs)
                .saturating_sub(self.progress.position(self.steps_per_epoch)),
            memory,
        }
    }

    /// The run as it stands after a step.
    fn snapshot(&self, task: &Task, optimizer: Option<OptimizerRecord>) -> Snapshot {
        let trained = task.clip.valid();
        let tuned = task.tuned(&trained);
        let is_adapted = tuned.as_ref().is_some_and(|tuned| tuned.adapters.is_some());
        let model = if is_adapted {
            trained.materialize()
        } else {
            trained
        };
        Snapshot {
            model: self.facts.with(model),
            average: task.average().map(|average| self.facts.with(average)),
            optimizer,
            progress: self.progress.clone(),
            tuned,
        }
    }

    /// Measures the model where the flags say so, after a completed epoch.
    fn evaluate(&mut self, learner: &Learner<Task>) -> Result<(), TrainError> {
        if !self.ranks.is_first() {
            return Ok(());
        }
        let epoch = self.progress.epoch;
        if !self.is_finite {
            let warning = format!("epoch {epoch} is not evaluated: its weights are of no use");
            self.journal.warn(warning);
            return Ok(());
        }
        let due = self.config.due(epoch);
        let task = learner.model();
        let average = task.average();
        let measured = average.as_ref().unwrap_or(&task.clip);
        let head = task.head.as_ref().map(|head| head.classifier().weight);
        self.encoder.set_model(&measured.valid().materialize());
        let (encoder, tokenizer) = (&self.encoder, &self.tokenizer);
        let measured = self
            .validation
            .run_with(encoder, tokenizer, due, head.as_ref())?;
        let metrics = measured.metrics;
        // Metrics of what is not finite say nothing, and none of them is the best.
        if measured.is_finite {
            self.saver.evaluated(&metrics, &mut self.journal);
        }
        if !metrics.is_empty() {
            self.journal.evaluation(epoch, self.progress.step, &metrics);
        }
        Ok(())
    }

    /// Says which samples of the epoch were of no use, on any rank.
    fn report_problems(&mut self) -> Result<(), TrainError> {
        let stats = self
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut counts = ProblemKind::ALL.map(|kind| stats.count(kind) as f32);
        self.ranks.all_reduce(&mut counts)?;
        let problems = ProblemKind::ALL.into_iter().zip(counts);
        let problems: Vec<_> = problems
            .filter(|(_, count)| *count > 0.0)
            .map(|(kind, count)| format!("{count} × {kind}"))
            .collect();
        if !problems.is_empty() {
            self.journal.warn(format!(
                "{} of the training data were passed over",
                problems.join(", ")
            ));
        }
        Ok(())
    }
}
