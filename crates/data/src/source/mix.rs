//! Several sources of any kind as one.
//!
//! In training every item comes from one of them, drawn at random: by how many samples each has left, so that all end together;
//! or, with resampling, by how many it has times its factor. Each source keeps its own order and is walked on a thread of its own.
//! An epoch takes as many items from a source as it says to have samples; the draws depend on these numbers alone, so that each
//! source can be told how many items to leave out after a resume.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use rand::Rng;
use rand::rngs::StdRng;

use super::order::Stream;
use super::{Item, Order, Sink, Source};
use crate::error::DataError;
use crate::storage::Watch;

/// Items of a source that wait to be drawn.
const WAITING: usize = 32;
/// Passes of a part that one pass of the whole may take.
const MOST_PASSES: u64 = 1 << 20;

/// A source among several.
#[derive(Clone)]
pub struct Part {
    /// Its samples.
    pub source: Arc<dyn Source>,
    /// How much more often than others its samples are drawn, with resampling.
    pub factor: f64,
}

/// Several sources, as the parts of `A::B`.
#[derive(Clone)]
pub struct Mix {
    parts: Vec<Part>,
    is_resampled: bool,
    /// Samples of each part, once they were asked for: that may be a question to a far server.
    sizes: OnceLock<Vec<u64>>,
}

impl Mix {
    /// One source of `parts`.
    pub fn new(parts: Vec<Part>, is_resampled: bool) -> Self {
        Self {
            parts,
            is_resampled,
            sizes: OnceLock::new(),
        }
    }

    /// How many samples each part has.
    fn sizes(&self) -> Result<&[u64], DataError> {
        if let Some(sizes) = self.sizes.get() {
            return Ok(sizes);
        }
        let size = |part: &Part| {
            let size = part.source.num_samples(None);
            size.map_err(|error| match error {
                DataError::UnknownLength { source_name } => {
                    DataError::UnknownPartLength { source_name }
                }
                other => other,
            })
        };
        let sizes = self.parts.iter().map(size).collect::<Result<_, _>>()?;
        Ok(self.sizes.get_or_init(|| sizes))
    }

    fn draws(&self, order: &Order, pass: u64) -> Result<Draws, DataError> {
        let world = order.world.max(1) as u64;
        let left: Vec<u64> = self
            .sizes()?
            .iter()
            .map(|size| size.div_ceil(world))
            .collect();
        let weights = left.iter().zip(&self.parts);
        let weights: Vec<f64> = weights
            .map(|(left, part)| *left as f64 * part.factor)
            .collect();
        if self.is_resampled && !(f64::MIN_POSITIVE..=f64::MAX).contains(&weights.iter().sum()) {
            return Err(DataError::NoShards {
                pattern: self.describe(),
            });
        }
        Ok(Draws {
            rng: order.rng(Stream::PartDraws, pass),
            total: left.iter().sum(),
            weights: self.is_resampled.then_some(weights),
            left,
        })
    }
}

/// Which part the next item comes from; ends with the pass.
#[derive(Clone)]
struct Draws {
    rng: StdRng,
    left: Vec<u64>,
    total: u64,
    weights: Option<Vec<f64>>,
}

impl Iterator for Draws {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.total == 0 {
            return None;
        }
        let drawn = match &self.weights {
            Some(weights) => {
                let mut at = self.rng.random_range(0.0..weights.iter().sum());
                let passed = |weight: &f64| {
                    at -= weight;
                    at < 0.0
                };
                let drawn = weights.iter().position(passed);
                // Rounding may leave a trifle behind the last.
                drawn.or_else(|| weights.iter().rposition(|weight| *weight > 0.0))?
            }
            None => {
                let mut at = self.rng.random_range(0..self.total);
                let drawn = self
                    .left
                    .iter()
                    .position(|left| match at.checked_sub(*left) {
                        Some(rest) => {
                            at = rest;
                            false
                        }
                        None => true,
                    })?;
                self.left[drawn] -= 1;
                drawn
            }
        };
        self.total -= 1;
        Some(drawn)
    }
}

impl Source for Mix {
    fn describe(&self) -> String {
        let parts = self.parts.iter().map(|part| part.source.describe());
        parts.collect::<Vec<_>>().join(" with ")
    }

    fn num_samples(&self, train_num_samples: Option<u64>) -> Result<u64, DataError> {
        let samples = self.sizes()?.iter().sum();
        Ok(train_num_samples.unwrap_or(samples))
    }

    fn batches(&self, samples: u64, world: usize, batch_size: usize) -> u64 {
        samples.div_ceil((batch_size * world) as u64)
    }

    fn fingerprint(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[u8::from(self.is_resampled)]);
        for part in &self.parts {
            hasher.update(&part.source.fingerprint().to_le_bytes());
            hasher.update(&part.factor.to_le_bytes());
        }
        hasher.finalize()
    }

    /// Those of the parts, one behind another.
    fn partitions(self: Arc<Self>, size: u64) -> Result<Vec<Arc<dyn Source>>, DataError> {
        let mut all = Vec::new();
        for part in &self.parts {
            all.extend(Arc::clone(&part.source).partitions(size)?);
        }
        Ok(all)
    }

    fn pass(
        &self,
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        if !order.training {
            for part in &self.parts {
                if part.source.pass(order, pass, sink)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        let mut draws = self.draws(order, pass)?;
        let mut skips = vec![0; self.parts.len()];
        while sink.is_skipping() {
            match draws.next() {
                Some(drawn) => skips[drawn] += sink.jump(1) as u64,
                None => return Ok(ControlFlow::Continue(())),
            }
        }
        std::thread::scope(|scope| {
            let mut received = Vec::with_capacity(self.parts.len());
            for (part, skip) in self.parts.iter().zip(skips) {
                let (items, receiver) = sync_channel(WAITING);
                let walker = Walker {
                    items,
                    skip,
                    pushed: 0,
                    is_told: false,
                    watch: sink.watch(),
                };
                scope.spawn(move || walker.walk(part.source.as_ref(), order, pass));
                received.push(receiver);
            }
            give(draws, &received, sink)
        })
    }
}

/// Gives out what is drawn. The walkers end when nobody receives any more.
fn give(
    draws: Draws,
    received: &[Receiver<Result<Item, DataError>>],
    sink: &mut dyn Sink,
) -> Result<ControlFlow<()>, DataError> {
    for drawn in draws {
        // A walker that has nothing to give has ended; the others go on.
        if let Ok(item) = received[drawn].recv()
            && sink.push(item?).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Walks one part, again and again.
struct Walker {
    items: SyncSender<Result<Item, DataError>>,
    /// Items still to be left out.
    skip: u64,
    pushed: u64,
    /// Something that costs no sample was told of.
    is_told: bool,
    watch: Watch,
}

impl Walker {
    fn walk(mut self, source: &dyn Source, order: &Order, pass: u64) {
        for again in 0..MOST_PASSES {
            let before = self.pushed;
            match source.pass(order, pass * MOST_PASSES + again, &mut self) {
                // A source without items must not be walked for ever.
                Ok(ControlFlow::Continue(())) if self.pushed > before => {}
                Ok(_) => return,
                Err(error) => {
                    let _ = self.items.send(Err(error));
                    return;
                }
            }
        }
    }
}

impl Sink for Walker {
    fn jump(&mut self, available: usize) -> usize {
        let left_out = self.skip.min(available as u64);
        self.skip -= left_out;
        self.pushed += left_out;
        left_out as usize
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        if let Item::Problem(problem) = &item
            && problem.kind.is_harmless()
        {
            // It would take the place of a sample.
            if !std::mem::replace(&mut self.is_told, true) {
                log::warn!("{problem}; others like it are not told");
            }
            return ControlFlow::Continue(());
        }
        if self.jump(1) == 1 {
            return ControlFlow::Continue(());
        }
        self.pushed += 1;
        match self.items.send(Ok(item)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn is_closed(&self) -> bool {
        self.watch.is_closed()
    }

    fn watch(&self) -> Watch {
        self.watch.clone()
    }

    fn is_skipping(&self) -> bool {
        self.skip > 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::super::shard_index::ShardIndex;
    use super::super::shards::Shards;
    use super::super::shuffle::ShuffleSize;
    use super::super::testing::{Collect, Resumed, write_shards};
    use super::super::{files::Files, tar};
    use super::*;

    fn mix(dir: &Path, factors: Option<[f64; 2]>, index: Option<&Path>) -> Mix {
        let paths = write_shards(dir, 5, 8);
        std::fs::write(dir.join("__len__"), "40").unwrap();
        let index = index.map(|dir| Arc::new(ShardIndex::open(dir, 0)));
        let resampled = factors.is_some();
        let shards = tar::source(Shards::list(paths), resampled, ShuffleSize::default()).unwrap();
        let files = (0..60).map(|at| PathBuf::from(format!("file-{at}")));
        let [one, two] = factors.unwrap_or([1.0; 2]);
        let parts = vec![
            Part {
                source: Arc::new(shards.with_index(index)),
                factor: one,
            },
            Part {
                source: Arc::new(Files::list(files.collect())),
                factor: two,
            },
        ];
        Mix::new(parts, resampled)
    }

    #[test]
    fn an_epoch_has_every_sample_of_all_and_is_resumed_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let order = Order::training(2, 1);
        let index = dir.path().join("index");
        let mixed = mix(dir.path(), None, Some(&index));
        assert_eq!(mixed.num_samples(None).unwrap(), 100);
        let whole = Collect::pass(&mixed, &order, 0).unwrap().0;
        let names: BTreeMap<String, usize> = whole.iter().fold(BTreeMap::new(), |mut all, item| {
            if let Item::Sample(sample) = item {
                *all.entry(sample.name.clone()).or_default() += 1;
            }
            all
        });
        assert!(names.len() == 100 && names.values().all(|count| *count == 1));
        // Neither source comes in one piece.
        let files = whole[..50]
            .iter()
            .filter(|item| matches!(item, Item::Sample(sample) if sample.shard.is_none()));
        assert!((15..45).contains(&files.count()));
        for skip in [0, 1, 37, 99, 100] {
            for index in [None, Some(index.as_path())] {
                let mixed = mix(dir.path(), None, index);
                let rest = Resumed::pass(&mixed, &order, skip, usize::MAX);
                assert_eq!(rest, whole[skip..], "{skip}");
            }
        }
    }

    #[test]
    fn factors_weigh_samples() {
        let dir = tempfile::tempdir().unwrap();
        let mixed = mix(dir.path(), Some([3.0, 1.0]), None);
        let mut from_shards = 0;
        for pass in 0..40 {
            let all = Collect::pass(&mixed, &Order::training(4, 0), pass).unwrap();
            assert_eq!(all.0.len(), 100);
            from_shards += all
                .samples()
                .filter(|sample| sample.shard.is_some())
                .count();
        }
        // 3 · 40 of 3 · 40 + 60.
        let share = from_shards as f64 / 4000.0;
        assert!((share - 2.0 / 3.0).abs() < 0.03, "{share}");
    }
}
