//! Sources whose samples come in shards, which are read from their start to their end: tar archives, row groups of parquet files.
//!
//! In training, shards are shuffled, ranks take turns among them, and samples pass through a shuffle buffer; all of it is seeded.
//! (OpenCLIP seeds its sample buffer with the time, so its order cannot be repeated.) The next shards are on their way while one
//! is read. A resume repeats the order from what [`shard_index`](super::shard_index) knows, and reads again only what waits in
//! the buffer.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use rand::Rng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::seq::SliceRandom;

use super::keys::Draw;
use super::order::Stream;
use super::shard::{Begun, Shard, fetch};
use super::shard_index::{Entry, Extent, Recorder, ShardIndex};
use super::shards::Shards;
use super::shuffle::{Shuffle, ShuffleSize, Waiting};
use super::{Item, Order, Sink, Source, partition};
use crate::error::DataError;

/// Shards that are begun before the one at hand is done with.
const AHEAD: usize = 2;
/// Samples that a shard is taken to have where nothing says how many: as many as img2dataset puts into one.
const USUAL_SIZE: u64 = 10_000;
/// Samples of a shard that are read again together.
const TOGETHER: usize = 64;

/// How often a shard is drawn, and how large all are together.
#[derive(Clone, Debug, Default)]
pub struct Sampling {
    /// Shards are drawn with replacement in training (`--dataset-resampled`); each rank then draws for itself.
    pub resampled: bool,
    /// One weight per shard, for that.
    pub weights: Option<Vec<f64>>,
    /// Where it is said how many samples the shards have.
    pub sizes: Option<Arc<Shards>>,
    /// What of their samples is used, where that is not the usual.
    pub mark: Option<String>,
}

/// Samples of shards.
#[derive(Clone)]
pub struct Sharded {
    shards: Vec<Arc<dyn Shard>>,
    /// As the user wrote it.
    pattern: String,
    sampling: Sampling,
    shuffle: ShuffleSize,
    index: Option<Arc<ShardIndex>>,
}

impl Sharded {
    /// A set of shards, which `pattern` stands for.
    ///
    /// # Errors
    /// When there is no shard, or there are weights without resampling.
    pub fn new(
        shards: Vec<Arc<dyn Shard>>,
        pattern: String,
        sampling: Sampling,
        shuffle: ShuffleSize,
    ) -> Result<Self, DataError> {
        if shards.is_empty() {
            return Err(DataError::NoShards { pattern });
        }
        if sampling.weights.is_some() && !sampling.resampled {
            return Err(DataError::UpsamplingNeedsResampling);
        }
        Ok(Self {
            shards,
            pattern,
            sampling,
            shuffle,
            index: None,
        })
    }

    /// Remembers what shards hold, so that a resume can jump.
    #[must_use]
    pub fn with_index(mut self, index: Option<Arc<ShardIndex>>) -> Self {
        self.index = index;
        self
    }

    /// The shards that a rank reads in one pass, in order.
    pub(super) fn shards_of_pass(
        &self,
        order: &Order,
        pass: u64,
    ) -> Result<Vec<&dyn Shard>, DataError> {
        let shards = &self.shards;
        let shard = |at: usize| shards[at].as_ref();
        if order.training && self.sampling.resampled {
            let rng = &mut order.rng(Stream::ShardDraws, pass);
            let weights = self.sampling.weights.as_ref();
            let weighted = weights.map(WeightedIndex::new).transpose();
            let weighted = weighted.map_err(|_| DataError::NoShards {
                pattern: self.pattern.clone(),
            })?;
            let mut draw = || match &weighted {
                Some(weighted) => weighted.sample(rng),
                None => rng.random_range(0..shards.len()),
            };
            return Ok((0..shards.len()).map(|_| shard(draw())).collect());
        }
        let world = order.world.max(1);
        if shards.len() < world {
            return Err(DataError::TooFewShards {
                pattern: self.pattern.clone(),
                shards: shards.len(),
                world,
            });
        }
        let mut shuffled: Vec<usize> = (0..shards.len()).collect();
        if order.training {
            // The same permutation in every pass of an epoch, so that a rank keeps its own shards.
            shuffled.shuffle(&mut order.rng(Stream::ShardOrder, 0));
        }
        let own = shuffled.into_iter().skip(order.rank).step_by(world);
        Ok(own.map(shard).collect())
    }

    /// What tells a shard, and what of its samples is used, from others.
    fn identity(&self, shard: &dyn Shard) -> String {
        let mark = self.sampling.mark.as_deref().unwrap_or_default();
        format!("{} {mark}", shard.identity())
    }

    /// Repeats the order of a shard's items, and gives those that are wanted.
    fn replay<'a>(
        &self,
        shard: &'a dyn Shard,
        draw: Draw,
        version: &Arc<str>,
        entries: Vec<Entry>,
        shuffle: &mut Shuffle<'a, '_>,
    ) -> Result<ControlFlow<()>, DataError> {
        let mut entries = entries.into_iter();
        while shuffle.is_skipping() {
            let Some(entry) = entries.next() else {
                return Ok(ControlFlow::Continue(()));
            };
            let pushed = match entry {
                Entry::Problem(problem) => shuffle.push(Item::Problem(problem)),
                Entry::Sample { extent, bytes } => shuffle.wait(Waiting {
                    shard,
                    draw,
                    version: Arc::clone(version),
                    extent,
                    bytes: bytes as usize,
                }),
            };
            if pushed.is_break() {
                return Ok(pushed);
            }
        }
        // The rest of the shard, from where the resume begins.
        let mut rest = entries.peekable();
        while rest.peek().is_some() {
            let together = shard.together().max(TOGETHER);
            let part: Vec<Entry> = rest.by_ref().take(together).collect();
            let extents = part.iter().filter_map(|entry| match entry {
                Entry::Sample { extent, .. } => Some(*extent),
                Entry::Problem(_) => None,
            });
            let extents: Vec<Extent> = extents.collect();
            let fetched = fetch(shard, &extents, version, &draw, shuffle.watch())?;
            let mut fetched = fetched.into_iter();
            for entry in part {
                let item = match entry {
                    Entry::Problem(problem) => Some(Item::Problem(problem)),
                    Entry::Sample { .. } => fetched.next(),
                };
                if let Some(item) = item
                    && shuffle.push(item).is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Reads a shard from its start to its end, and notes what is in it.
    fn read(
        &self,
        shard: &dyn Shard,
        begun: Box<dyn Begun + '_>,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        let name = self.identity(shard);
        let index = self.index.as_ref();
        let mut recorder = match index {
            Some(index) => index.recorder(&name),
            None => Recorder::new(false),
        };
        let read = begun.read(sink, &mut recorder)?;
        if let Some(index) = index
            && read.is_continue()
        {
            index.add(&name, recorder);
        }
        Ok(read)
    }
}

impl Source for Sharded {
    fn describe(&self) -> String {
        format!("{} shards ({})", self.shards.len(), self.pattern)
    }

    /// `train_num_samples`, or what is known of the shards.
    fn num_samples(&self, train_num_samples: Option<u64>) -> Result<u64, DataError> {
        let unknown = || DataError::UnknownLength {
            source_name: self.describe(),
        };
        let said = || match &self.sampling.sizes {
            Some(shards) => shards.num_samples(),
            None => Ok(self.shards.iter().map(|shard| shard.samples()).sum()),
        };
        match train_num_samples {
            Some(samples) => Ok(samples),
            None => said()?.ok_or_else(unknown),
        }
    }

    /// As many batches as it takes to see every sample once; the last is filled up. (OpenCLIP rounds up further, to a
    /// multiple of `--workers`, since each of its workers makes whole batches of its own.)
    fn batches(&self, samples: u64, world: usize, batch_size: usize) -> u64 {
        samples.div_ceil((batch_size * world) as u64)
    }

    /// Over the names of the shards and how they are drawn.
    fn fingerprint(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[u8::from(self.sampling.resampled)]);
        for shard in &self.shards {
            hasher.update(shard.key().as_bytes());
            hasher.update(b"/");
        }
        for weight in self.sampling.weights.iter().flatten() {
            hasher.update(&weight.to_le_bytes());
        }
        hasher.update(self.sampling.mark.as_deref().unwrap_or_default().as_bytes());
        hasher.finalize()
    }

    fn partitions(self: Arc<Self>, size: u64) -> Result<Vec<Arc<dyn Source>>, DataError> {
        let said = match &self.sampling.sizes {
            Some(shards) => shards.sizes()?,
            None => None,
        };
        let sizes = self.shards.iter().enumerate().map(|(at, shard)| {
            let said = said.as_ref().map(|sizes| sizes[at]);
            said.or_else(|| shard.samples()).unwrap_or(USUAL_SIZE)
        });
        let runs = partition::runs(sizes, size).into_iter();
        let part = |run: Range<usize>| -> Arc<dyn Source> {
            let sampling = Sampling {
                // They are those of all shards.
                sizes: None,
                weights: None,
                ..self.sampling.clone()
            };
            Arc::new(Self {
                shards: self.shards[run].to_vec(),
                sampling,
                ..Self::clone(&self)
            })
        };
        Ok(runs.map(part).collect())
    }

    fn pass(
        &self,
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        let shards = self.shards_of_pass(order, pass)?;
        let size = match order.training {
            true => self.shuffle,
            false => ShuffleSize::NONE,
        };
        let mut shuffle = Shuffle::new(size, order.rng(Stream::SampleOrder, pass), sink);
        let draw = |shard| Draw {
            order: *order,
            pass,
            shard: shard as u64,
        };
        let mut begun = VecDeque::new();
        let (mut next, mut is_told) = (0, false);
        for (at, shard) in shards.iter().copied().enumerate() {
            let known = self.index.as_ref().filter(|_| shuffle.is_skipping());
            let known = known
                .and_then(|index| index.find(&self.identity(shard), shard.version().as_deref()));
            let read = match known {
                Some(known) => {
                    next = at + 1;
                    self.replay(
                        shard,
                        draw(at),
                        &known.version.into(),
                        known.entries,
                        &mut shuffle,
                    )?
                }
                _ => {
                    if shuffle.is_skipping() && !std::mem::replace(&mut is_told, true) {
                        log::info!(
                            "{}: nothing is known of what it holds; it, and shards like it, are read again up to where the epoch was left",
                            shard.name()
                        );
                    }
                    let ahead = if shuffle.is_skipping() { 0 } else { AHEAD };
                    while next < shards.len() && next <= at + ahead {
                        begun.push_back(shards[next].begin(draw(next)));
                        next += 1;
                    }
                    match begun.pop_front() {
                        Some(begun) => self.read(shard, begun, &mut shuffle)?,
                        None => ControlFlow::Continue(()),
                    }
                }
            };
            if read.is_break() {
                return shuffle.outcome();
            }
        }
        shuffle.drain()
    }
}

#[cfg(test)]
mod tests;
