//! The model as Burn's Learner sees it.

use std::sync::{Arc, Mutex};

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{Device, ExecutionError, FloatDType, Tensor};
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use openclip_eval::run::host;
use openclip_model::config::PreprocessConfig;
use openclip_model::layers::drop_path::branch_seed;
use openclip_model::loss::clip_loss;
use openclip_model::{Clip, pixels};

use crate::TrainError;
use crate::checkpoint::Tuned;
use crate::comm::{Communicator, Single};
use crate::ema::Ema;
use crate::finetune::Lora;
use crate::finetune::head::TrainedHead;
use crate::finetune::step::{Classification, Labelled, cross_entropy};
use crate::guard::{Guard, Verdict};
use crate::journal::StepFigures;
use crate::loss::Objective;
use crate::memory::MemoryUse;
use crate::optim::{clip_factor, gradient_norm, scale_gradients};
use crate::relay::{Losses, MicroBatch, Relay};
use crate::step::{Step, Uploaded};

/// Upper end of the logit scale's logarithm, `ln 100`.
pub const MAX_LOGIT_SCALE: f32 = 4.605_170_2;

/// What stays the same from step to step.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where the steps run, with autodiff.
    pub device: Device,
    /// Dtype of activations.
    pub compute: FloatDType,
    /// Normalisation of the pictures.
    pub preprocess: PreprocessConfig,
    /// Largest global gradient norm.
    pub grad_clip_norm: Option<f32>,
    /// Seed of dropout.
    pub seed: u64,
}

/// What the steps and the loop around them share beyond Burn's interface.
#[derive(Debug, Default)]
pub struct TrainingState {
    /// This rank's shares of the step's losses, until it is judged.
    shares: Option<Losses>,
    /// Losses of the last step, of all ranks together.
    pub losses: Losses<f64>,
    /// Global gradient norm of the last step, before clipping.
    pub grad_norm: f32,
    /// What became of the last step.
    pub verdict: Verdict,
    /// Steps that changed nothing.
    pub skipped: u64,
    /// Bad ones among them in a row, up to now.
    pub bad_in_a_row: u64,
    /// Judges the steps.
    pub guard: Guard,
    /// Average of the weights.
    pub ema: Option<Ema>,
    /// Set before a step whose optimizer state is to be kept.
    pub keep_optimizer: bool,
    /// The state after that step.
    pub optimizer: Option<OptimizerRecord>,
}

/// [`Clip`] with everything a training step needs.
#[derive(Module, Debug)]
pub struct Task {
    /// The network.
    pub clip: Clip,
    /// The classifier, where one is fine-tuned.
    pub head: Option<TrainedHead>,
    #[module(skip)]
    setup: Arc<Setup>,
    #[module(skip)]
    state: Arc<Mutex<TrainingState>>,
    #[module(skip)]
    objective: Objective,
    #[module(skip)]
    ranks: Arc<dyn Communicator>,
    #[module(skip)]
    teacher: Option<Arc<Clip>>,
    #[module(skip)]
    smoothing: f64,
    #[module(skip)]
    adapters: Option<(Lora, Arc<str>)>,
}

impl ItemLazy for StepFigures {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<StepFigures> for StepFigures {
    fn adapt(&self) -> StepFigures {
        *self
    }
}

impl Task {
    /// Wraps a model.
    pub fn new(clip: Clip, setup: Setup) -> Self {
        Self {
            clip,
            head: None,
            setup: Arc::new(setup),
            state: Arc::default(),
            objective: Objective::default(),
            ranks: Arc::new(Single),
            teacher: None,
            smoothing: 0.0,
            adapters: None,
        }
    }

    /// The same as a classifier, whose labels are smoothed so; `adapters` says how those of the model were made, and the checksum of the
    /// weights that they belong to.
    pub fn with_head(
        self,
        head: TrainedHead,
        smoothing: f64,
        adapters: Option<(Lora, Arc<str>)>,
    ) -> Self {
        Self {
            head: Some(head),
            smoothing,
            adapters,
            ..self
        }
    }

    /// What a checkpoint has beside the weights; `trained` is the model without graph.
    pub fn tuned(&self, trained: &Clip) -> Option<Tuned> {
        let head = self.head.as_ref()?.classifier();
        let adapters = self.adapters.clone();
        let adapters = adapters.map(|(lora, base)| (trained.clone(), lora, base));
        Some(Tuned { head, adapters })
    }

    /// The same with another objective than CLIP's.
    pub fn with_objective(self, objective: Objective) -> Self {
        Self { objective, ..self }
    }

    /// The same as one of several ranks.
    pub fn with_ranks(self, ranks: Arc<dyn Communicator>) -> Self {
        Self { ranks, ..self }
    }

    /// The same with a model to learn from, without graph.
    pub fn with_teacher(self, teacher: Option<Arc<Clip>>) -> Self {
        Self { teacher, ..self }
    }

    /// The same with a judge of its steps.
    pub fn with_guard(self, guard: Guard) -> Self {
        self.with_state(|state| state.guard = guard);
        self
    }

    /// The same with an average of its weights.
    pub fn with_ema(self, ema: Option<Ema>) -> Self {
        self.with_state(|state| state.ema = ema);
        self
    }

    /// The average of the weights, where there is one.
    pub fn average(&self) -> Option<Clip> {
        self.with_state(|state| state.ema.as_ref().map(|ema| ema.model.clone()))
    }

    /// Memory in use.
    pub fn memory(&self) -> MemoryUse {
        MemoryUse::now(&self.setup.device)
    }

    /// Whether the model as it stands has a finite loss on the micro-batches of a step.
    pub fn is_finite_on(&self, step: Step) -> bool {
        let figures = InferenceStep::step(&self.valid(), step);
        figures.loss.is_finite()
    }

    /// What the steps share with the loop.
    pub fn state(&self) -> &Arc<Mutex<TrainingState>> {
        &self.state
    }

    fn micro_batch(&self, batch: Uploaded, dropout: u64) -> MicroBatch {
        MicroBatch {
            tokens: batch.targets.clone(),
            images: self.pixels(batch),
            dropout,
        }
    }

    fn labelled(&self, batch: Uploaded, dropout: u64) -> Labelled {
        Labelled {
            labels: batch.targets.clone(),
            images: self.pixels(batch),
            dropout,
        }
    }

    fn pixels(&self, Uploaded { planes, batch, .. }: Uploaded) -> Tensor<4> {
        let images = pixels::normalise(planes, &self.setup.preprocess, self.setup.compute);
        batch.erased.into_iter().fold(images, |images, erased| {
            let (sample, erased) = erased;
            let (corner, size) = ([erased.top, erased.left], [erased.height, erased.width]);
            pixels::write_over(images, sample, corner, size, erased.noise)
        })
    }

    /// This rank's losses of a step, and the gradient of every trainable parameter.
    fn gradients(&self, step: Step) -> Result<(Losses, GradientsParams), TrainError> {
        let (rank, world) = (self.ranks.rank(), self.ranks.world_size());
        let seeds = dropout_seeds(self.setup.seed, step.index, rank, world, step.batches.len());
        let batches = seeds.zip(step.batches);
        let grad_scale = self.with_state(|state| state.guard.grad_scale());
        let Some(head) = &self.head else {
            let batches: Vec<_> = batches
                .map(|(dropout, batch)| self.micro_batch(batch, dropout))
                .collect();
            let relay = Relay {
                ranks: self.ranks.as_ref(),
                teacher: self.teacher.as_deref(),
                grad_scale,
                ..Relay::new(&self.objective)
            };
            return relay.step(&self.clip, &batches);
        };
        let batches: Vec<_> = batches
            .map(|(dropout, batch)| self.labelled(batch, dropout))
            .collect();
        let step = Classification {
            smoothing: self.smoothing,
            ranks: self.ranks.as_ref(),
            grad_scale,
        };
        step.step(self, (&self.clip, head), &batches)
    }

    fn with_state<T>(&self, with: impl FnOnce(&mut TrainingState) -> T) -> T {
        with(
            &mut self
                .state
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }
}

/// The seeds of the micro-batches of `rank` in step `step` of a run. Micro-batches are numbered through the whole run, and SplitMix64
/// gives different numbers different seeds: no two of them agree, and however a batch is split, its parts' seeds are the same.
fn dropout_seeds(
    seed: u64,
    step: u64,
    rank: usize,
    world: usize,
    accum_freq: usize,
) -> impl Iterator<Item = u64> {
    let before = step.wrapping_mul(world as u64).wrapping_add(rank as u64);
    let first = before.wrapping_mul(accum_freq as u64);
    (0..accum_freq as u64).map(move |i| branch_seed(seed, first.wrapping_add(i) as usize))
}

impl TrainStep for Task {
    type Input = Step;
    type Output = StepFigures;

    /// The gradients; figures are in the [`TrainingState`] when the optimizer has stepped.
    fn step(&self, step: Step) -> TrainOutput<StepFigures> {
        // Burn's steps return no error: the run catches it behind Burn's back.
        let (losses, grads) = self
            .gradients(step)
            .unwrap_or_else(|error| std::panic::resume_unwind(Box::new(error)));
        self.with_state(|state| state.shares = Some(losses));
        TrainOutput {
            grads,
            item: StepFigures::default(),
        }
    }

    fn optimize(
        self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        grads: GradientsParams,
    ) -> Self {
        let (limit, scale) =
            self.with_state(|state| (self.setup.grad_clip_norm, state.guard.grad_scale() as f32));
        let norm = gradient_norm(&self, &grads) / scale;
        let losses = self
            .losses()
            .unwrap_or_else(|error| std::panic::resume_unwind(Box::new(error)));
        let verdict = self.with_state(|state| {
            state.grad_norm = norm;
            state.losses = losses;
            state.verdict = state.guard.judge(losses.total as f32, norm);
            state.skipped += u64::from(state.verdict != Verdict::Taken);
            match state.verdict {
                Verdict::Taken => state.bad_in_a_row = 0,
                verdict => state.bad_in_a_row += u64::from(verdict.is_bad()),
            }
            state.verdict
        });
        if verdict != Verdict::Taken {
            self.clip.drop_pending_statistics();
            return self.keep(optim);
        }
        let factor = clip_factor(norm, limit) / scale;
        let grads = match factor {
            1.0 => grads,
            factor => scale_gradients(&self, grads, factor),
        };
        let mut task = optim.step(lr, self, grads);
        task.clip.logit_scale = task.clip.logit_scale.map(|scale| {
            let tracked = scale.is_require_grad();
            Tensor::from_inner(scale.inner().clamp(0.0, MAX_LOGIT_SCALE)).set_require_grad(tracked)
        });
        task.clip = task.clip.apply_pending_statistics();
        task.with_state(|state| {
            if let Some(ema) = &mut state.ema {
                ema.update(&task.clip);
            }
        });
        task.keep(optim)
    }
}

impl Task {
    /// The step's losses over all ranks, which then judge it alike; zero where no step was made.
    fn losses(&self) -> Result<Losses<f64>, TrainError> {
        let shares = self.with_state(|state| state.shares.take());
        shares.map_or_else(
            || Ok(Losses::default()),
            |shares| shares.summed(self.ranks.as_ref()),
        )
    }

    /// Leaves the optimizer's state to the loop where it was asked for.
    fn keep(self, optim: &ModuleOptimizer) -> Self {
        self.with_state(|state| {
            if std::mem::take(&mut state.keep_optimizer) {
                state.optimizer = Some(optim.to_record());
            }
        });
        self
    }
}

impl InferenceStep for Task {
    type Input = Step;
    type Output = StepFigures;

    /// CLIP's loss of each micro-batch by itself, averaged; of a classifier its own.
    fn step(&self, step: Step) -> StepFigures {
        let losses = step.batches.into_iter().map(|uploaded| {
            let batch = uploaded.inner();
            if let Some(head) = &self.head {
                let count = batch.batch.size as f64;
                let Labelled { images, labels, .. } = self.labelled(batch, 0);
                let logits = head.logits(self.clip.encode_image(images, true));
                return cross_entropy(logits, labels, self.smoothing).div_scalar(count);
            }
            let MicroBatch { images, tokens, .. } = self.micro_batch(batch, 0);
            clip_loss(self.clip.forward(images, tokens))
        });
        let mean = host(Tensor::cat(losses.collect(), 0).mean()).unwrap_or_default();
        let loss = mean.first().map_or(f64::NAN, |loss| f64::from(*loss));
        StepFigures {
            loss,
            contrastive_loss: self.head.is_none().then_some(loss),
            ..StepFigures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// More micro-batches in a step than sixteen bits number, and seeds of runs that are next to each other.
    #[test]
    fn no_two_micro_batches_drop_the_same() {
        for (world, accum_freq) in [(1, 1), (2, 3), (1024, 100), (3, 40_000)] {
            let mut seen = HashSet::new();
            let mut count = 0;
            for seed in [0, 1] {
                for step in [0, 1, 2, 65_535, 65_536, 10_000_000] {
                    let ranks = HashSet::from([0, world / 2, world - 1]);
                    for rank in ranks {
                        let seeds = dropout_seeds(seed, step, rank, world, accum_freq);
                        count += accum_freq;
                        seen.extend(seeds);
                    }
                }
            }
            assert_eq!(seen.len(), count, "{world} ranks of {accum_freq}");
        }
    }

    #[test]
    fn however_a_batch_is_split_its_parts_drop_the_same() {
        let whole: Vec<u64> = dropout_seeds(7, 5, 0, 1, 6).collect();
        let ranks = (0..3).flat_map(|rank| dropout_seeds(7, 5, rank, 3, 2));
        assert_eq!(ranks.collect::<Vec<_>>(), whole);
    }
}
