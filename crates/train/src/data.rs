//! Training data as Burn's data loader.

use std::sync::{Arc, Mutex};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use openclip_data::error::DataError;
use openclip_data::loader::{Batch, Loader, LoaderOptions, Stats, Transform};
use openclip_data::source::Source;
use openclip_data::tokenizer::Tokenizer;

use crate::checkpoint::EpochShape;
use crate::step::{Step, Uploaded};

/// Where the next epoch's iteration begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Position {
    /// Epoch, from zero.
    pub epoch: u64,
    /// Items of the source used already.
    pub cursor: u64,
    /// Optimizer steps of this epoch done already.
    pub step_in_epoch: u64,
    /// Optimizer steps of the run done already.
    pub step: u64,
}

/// Makes the optimizer steps of one epoch after another.
pub struct Steps {
    /// Samples.
    pub source: Arc<dyn Source>,
    /// Training transform.
    pub transform: Arc<Transform>,
    /// Of the model, where captions are read.
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    /// Batch size, workers, seed.
    pub options: LoaderOptions,
    /// Where the batches go.
    pub device: Device,
    /// Micro-batches of a step.
    pub accum_freq: usize,
    /// Samples of an epoch, of all ranks together.
    pub samples_per_epoch: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Where [`DataLoader::iter`] begins.
    pub position: Arc<Mutex<Position>>,
    /// Counters of the loader that runs.
    pub stats: Arc<Mutex<Stats>>,
}

impl Clone for Steps {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            transform: Arc::clone(&self.transform),
            tokenizer: self.tokenizer.clone(),
            options: self.options.clone(),
            device: self.device.clone(),
            position: Arc::clone(&self.position),
            stats: Arc::clone(&self.stats),
            ..*self
        }
    }
}

impl Steps {
    /// What an epoch looks like.
    pub fn shape(&self) -> EpochShape {
        EpochShape {
            samples: self.samples_per_epoch,
            steps: self.steps_per_epoch,
            step_samples: self.step_samples() as u64,
            ranks: self.options.order.world as u64,
            data: self.source.fingerprint(),
        }
    }

    /// Samples of a step, of all ranks together.
    pub fn step_samples(&self) -> usize {
        self.options.batch_size * self.accum_freq * self.options.order.world
    }

    /// How many steps so many samples make that all ranks share.
    pub fn steps_of(&self, samples: u64) -> u64 {
        let LoaderOptions {
            batch_size, order, ..
        } = &self.options;
        self.source.batches(samples, order.world, *batch_size) / self.accum_freq as u64
    }

    fn start(&self, position: Position) -> Result<Loader, DataError> {
        let mut options = self.options.clone();
        options.order.epoch = position.epoch;
        options.start_cursor = position.cursor;
        let left = self.steps_per_epoch - position.step_in_epoch.min(self.steps_per_epoch);
        options.num_batches = Some(left * self.accum_freq as u64);
        let (source, transform) = (Arc::clone(&self.source), Arc::clone(&self.transform));
        Loader::start(source, transform, self.tokenizer.clone(), &options)
    }
}

impl DataLoader<Step> for Steps {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Step> + 'a> {
        let position = *self
            .position
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Box::new(EpochIterator {
            steps: self,
            position,
            loader: None,
            failed: false,
        })
    }

    fn num_items(&self) -> usize {
        self.steps_per_epoch as usize
    }

    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<Step>> {
        // Batches go to the device of the run.
        Arc::new(self.clone())
    }

    fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<Step>> {
        // Ranks share samples through the source's order, not by slices.
        Arc::new(self.clone())
    }
}

struct EpochIterator<'a> {
    steps: &'a Steps,
    position: Position,
    loader: Option<Loader>,
    failed: bool,
}

impl EpochIterator<'_> {
    fn batch(&mut self) -> Option<Result<Batch, DataError>> {
        let loader = match &mut self.loader {
            Some(loader) => loader,
            empty => match self.steps.start(self.position) {
                Ok(loader) => empty.insert(loader),
                Err(error) => return Some(Err(error)),
            },
        };
        let batch = loader.next();
        *self
            .steps
            .stats
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = loader.stats();
        batch
    }
}

impl Iterator for EpochIterator<'_> {
    type Item = Result<Step, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.position.step_in_epoch >= self.steps.steps_per_epoch {
            return None;
        }
        let mut batches = Vec::with_capacity(self.steps.accum_freq);
        while batches.len() < self.steps.accum_freq {
            match self.batch()? {
                Ok(batch) => {
                    let Steps {
                        options, device, ..
                    } = self.steps;
                    batches.push(Uploaded::new(batch, options.image_size, device));
                }
                Err(error) => {
                    self.failed = true;
                    return Some(Err(DatasetError::new(error)));
                }
            }
        }
        let step = Step {
            batches,
            index: self.position.step,
        };
        self.position.step += 1;
        self.position.step_in_epoch += 1;
        Some(Ok(step))
    }
}

impl DataLoaderIterator<Step> for EpochIterator<'_> {
    fn progress(&self) -> Progress {
        let done = self.position.step_in_epoch as usize;
        Progress::new(
            done,
            self.steps.steps_per_epoch as usize,
            Some("steps".into()),
        )
    }
}
