//! webdataset: samples in tar shards, plain or gzip, read as streams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use rand::Rng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::seq::SliceRandom;

use super::group::{Group, Grouper, Role};
use super::order::Stream;
use super::shards::Shards;
use super::shuffle::{Shuffle, ShuffleSize};
use super::{Item, MAX_MEMBER_BYTES, Order, Problem, ProblemKind, Sink, Source};
use crate::error::DataError;

/// Samples of tar shards.
///
/// In training, shards are shuffled, ranks take turns among them, and samples pass through a shuffle buffer; all of it
/// is seeded. (OpenCLIP seeds its sample buffer with the time, so its order cannot be repeated.)
#[derive(Clone, Debug)]
pub struct Tar {
    shards: Shards,
    resampled: bool,
    shuffle: ShuffleSize,
}

impl Tar {
    /// A set of shards. `resampled` (`--dataset-resampled`) draws shards with replacement in training, by weight if the
    /// list has weights; then each rank draws for itself.
    ///
    /// # Errors
    /// When there is no shard, or there are weights without resampling.
    pub fn new(shards: Shards, resampled: bool, shuffle: ShuffleSize) -> Result<Self, DataError> {
        if shards.paths.is_empty() {
            return Err(DataError::NoShards {
                pattern: shards.pattern,
            });
        }
        if shards.weights.is_some() && !resampled {
            return Err(DataError::UpsamplingNeedsResampling);
        }
        Ok(Self {
            shards,
            resampled,
            shuffle,
        })
    }

    /// The shards that a rank reads in one pass, in order.
    fn shards_of_pass(&self, order: &Order, pass: u64) -> Result<Vec<&Path>, DataError> {
        let paths = &self.shards.paths;
        if order.training && self.resampled {
            let rng = &mut order.rng(Stream::ShardDraws, pass);
            let weighted = self
                .shards
                .weights
                .as_ref()
                .map(WeightedIndex::new)
                .transpose();
            let weighted = weighted.map_err(|_| DataError::NoShards {
                pattern: self.shards.pattern.clone(),
            })?;
            let mut draw = || match &weighted {
                Some(weighted) => weighted.sample(rng),
                None => rng.random_range(0..paths.len()),
            };
            return Ok((0..paths.len()).map(|_| paths[draw()].as_path()).collect());
        }
        let world = order.world.max(1);
        if paths.len() < world {
            return Err(DataError::TooFewShards {
                pattern: self.shards.pattern.clone(),
                shards: paths.len(),
                world,
            });
        }
        let mut shuffled: Vec<&PathBuf> = paths.iter().collect();
        if order.training {
            // The same permutation in every pass of an epoch, so that a rank keeps its own shards.
            shuffled.shuffle(&mut order.rng(Stream::ShardOrder, 0));
        }
        Ok(shuffled
            .into_iter()
            .skip(order.rank)
            .step_by(world)
            .map(PathBuf::as_path)
            .collect())
    }
}

impl Source for Tar {
    fn describe(&self) -> String {
        format!(
            "{} shards ({})",
            self.shards.paths.len(),
            self.shards.pattern
        )
    }

    /// As many batches as it takes to see `train_num_samples`, or the size by [`Shards::num_samples`], once; the last
    /// is filled up. (OpenCLIP rounds up further, to a multiple of `--workers`, since each of its workers makes whole
    /// batches of its own.)
    fn batches_per_epoch(
        &self,
        train_num_samples: Option<u64>,
        world: usize,
        batch_size: usize,
    ) -> Result<u64, DataError> {
        let samples = match train_num_samples {
            Some(samples) => samples,
            None => self
                .shards
                .num_samples()?
                .ok_or_else(|| DataError::UnknownLength {
                    source_name: self.describe(),
                })?,
        };
        if samples == 0 {
            return Err(DataError::TooFewSamples {
                source_name: self.describe(),
                samples: 0,
                world,
                batch_size,
            });
        }
        Ok(samples.div_ceil((batch_size.max(1) * world.max(1)) as u64))
    }

    fn pass(
        &self,
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        let shards = self.shards_of_pass(order, pass)?;
        let read_all =
            |sink: &mut dyn Sink| shards.iter().try_for_each(|shard| read_shard(shard, sink));
        if !order.training {
            return Ok(read_all(sink));
        }
        let mut shuffle = Shuffle::new(self.shuffle, order.rng(Stream::SampleOrder, pass), sink);
        let read = read_all(&mut shuffle);
        Ok(if read.is_break() {
            read
        } else {
            shuffle.drain()
        })
    }
}

/// Pushes the samples of one shard. A sample never spans two shards.
fn read_shard(path: &Path, sink: &mut dyn Sink) -> ControlFlow<()> {
    let shard = path.to_string_lossy();
    let problem = |kind, reason: String| {
        Item::Problem(Problem {
            kind,
            place: shard.to_string(),
            reason,
        })
    };
    let reader = match open(path) {
        Ok(reader) => reader,
        Err(error) => return sink.push(problem(ProblemKind::UnreadableShard, error.to_string())),
    };
    let mut archive = tar::Archive::new(reader);
    let mut grouper = Grouper::default();
    let mut members = 0_u64;
    let mut samples = 0_u64;
    let mut push_group = |group: Group| {
        samples += 1;
        group
            .into_items(&shard)
            .into_iter()
            .try_for_each(|item| sink.push(item))
    };
    let end = 'members: {
        let entries = match archive.entries() {
            Ok(entries) => entries,
            Err(error) => break 'members Some(error),
        };
        for entry in entries {
            let mut entry = match entry {
                Ok(entry) => entry,
                Err(error) => break 'members Some(error),
            };
            members += 1;
            if !matches!(
                entry.header().entry_type(),
                tar::EntryType::Regular | tar::EntryType::Continuous
            ) {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (finished, role) = grouper.member(&name);
            if let Some(group) = finished {
                push_group(group)?;
            }
            if role == Role::Other {
                continue;
            }
            if entry.size() > MAX_MEMBER_BYTES {
                grouper.too_large(entry.size());
                continue;
            }
            match read_member(&mut entry) {
                Ok(bytes) => grouper.content(role, bytes),
                Err(error) => break 'members Some(error),
            }
        }
        None
    };
    if let Some(group) = grouper.finish() {
        // What is missing from the sample that was cut off says nothing about the data.
        if end.is_none() || group.is_complete() {
            push_group(group)?;
        }
    }
    match end {
        Some(error) if members == 0 => {
            sink.push(problem(ProblemKind::UnreadableShard, error.to_string()))
        }
        Some(error) => sink.push(problem(
            ProblemKind::TruncatedShard,
            format!("after {samples} samples: {error}"),
        )),
        None if samples == 0 => sink.push(problem(
            ProblemKind::EmptyShard,
            format!("{members} members, none named key.suffix"),
        )),
        None => ControlFlow::Continue(()),
    }
}

/// The bytes of a member; it is an error when the shard ends before the member does.
fn read_member(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let size = entry.size();
    let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
    entry.read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file ends inside a member",
        ));
    }
    Ok(bytes)
}

/// Opens a shard and takes gzip off, which the first bytes tell.
fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let packed = match file.fill_buf()? {
        [0x1f, 0x8b, ..] => return Ok(Box::new(MultiGzDecoder::new(file))),
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => return Ok(Box::new(file)),
    };
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("compressed with {packed}; plain and gzip tar are read"),
    ))
}

#[cfg(test)]
mod tests;
