//! Any source to balanced tar shards.
//!
//! `journal` knows how far a pack has come, `shard` writes one shard, `prepare` makes a sample's members.

mod journal;
mod options;
mod prepare;
mod shard;

use std::ops::ControlFlow;
use std::path::Path;

use openclip_model::files::atomic;
use serde_json::{Map, Value};

use self::journal::{Journal, Settings, State};
use self::prepare::{Prepare, Prepared};
use self::shard::Shard;
use super::problems::ProblemCount;
use super::sample::Hashes;
use super::walk::{Found, Walk};
use crate::error::DataError;
use crate::source::Source;

pub use self::options::PackOptions;

/// The number of samples of every shard by its name.
const SIZES: &str = "sizes.json";

/// What a pack holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Samples of every shard, in order.
    pub shards: Vec<u64>,
    /// Samples of all shards.
    pub samples: u64,
    /// Bytes of their pictures.
    pub bytes: u64,
    /// Pictures that were made smaller.
    pub resized: u64,
    /// Samples that have no caption.
    pub without_caption: u64,
    /// Samples that were left out since they came before.
    pub repeated: u64,
    /// What else was left out, by reason.
    pub problems: Vec<ProblemCount>,
    /// Shards that were there already.
    pub found: usize,
}

/// The file name of shard `number`.
pub fn shard_name(number: usize) -> String {
    format!("{number:06}.tar")
}

/// Packs every sample of `source` into `folder`, or goes on where an earlier call was interrupted. `done` takes the number of samples
/// that were dealt with since its last call.
///
/// Shards are `000000.tar`, …, their samples `KEY.jpg`, `KEY.txt` and `KEY.json` with keys that count all samples. Where the source
/// knows its number of samples, shards differ by one sample at most; what is left out makes the last one smaller. Each is written in
/// one step, and the result is the same to the byte however often the work was interrupted.
///
/// # Errors
/// When the folder has another content or another pack, cannot be written, or the source cannot be read to its end.
pub fn pack(
    source: &dyn Source,
    folder: &Path,
    options: &PackOptions,
    done: impl Fn(u64),
) -> Result<Packed, DataError> {
    let settings = Settings::of(source, options);
    let mut journal = Journal::open(folder, settings)?;
    let found = journal.state.shards.len();
    done(journal.state.seen);
    if !journal.state.is_complete {
        let mut packer = Packer {
            folder,
            options,
            total: source.num_samples(None).ok(),
            resumed_at: journal.state.items,
            journal: &mut journal,
            shard: None,
            hashes: Hashes::default(),
        };
        packer.run(source, done)?;
    }
    let State {
        shards,
        samples,
        bytes,
        resized,
        without_caption,
        repeated,
        problems,
        ..
    } = journal.state;
    Ok(Packed {
        shards,
        samples,
        bytes,
        resized,
        without_caption,
        repeated,
        problems: problems.counts(),
        found,
    })
}

struct Packer<'a> {
    folder: &'a Path,
    options: &'a PackOptions,
    /// Samples of the source, where it knows.
    total: Option<u64>,
    /// Items that finished shards are made of.
    resumed_at: u64,
    journal: &'a mut Journal,
    /// The shard that is being filled.
    shard: Option<Shard>,
    hashes: Hashes,
}

impl Packer<'_> {
    fn run(&mut self, source: &dyn Source, done: impl Fn(u64)) -> Result<(), DataError> {
        // To know what came before, all of it has to be read again.
        let skip = match self.options.dedup {
            true => 0,
            false => self.resumed_at,
        };
        let prepare = Prepare {
            options: *self.options,
            packed: self.resumed_at,
        };
        let walk = Walk {
            threads: self.options.survey.threads,
            skip,
            most: None,
        };
        let mut failed = None;
        walk.run(
            source,
            |item, sample, watch| prepare.sample(item, sample, watch),
            |item, found| {
                let is_new = item >= self.resumed_at;
                let is_sample = matches!(found, Found::Sample(_));
                let taken = self.take(item, found);
                if is_new && is_sample {
                    done(1);
                }
                match taken {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            },
        )?;
        match failed {
            Some(error) => Err(error),
            None => self.end(source),
        }
    }

    fn take(&mut self, item: u64, found: Found<Prepared>) -> Result<(), DataError> {
        if let Found::Sample(Prepared::Packed(hash)) = found {
            self.hashes.insert(hash);
            return Ok(());
        }
        // What was told before the interruption is in the journal.
        if item < self.resumed_at {
            return Ok(());
        }
        let state = &mut self.journal.state;
        state.items = item + 1;
        match found {
            Found::Problem(problem) => {
                state.seen += u64::from(problem.kind.drops_sample());
                state.problems.add(problem);
            }
            Found::Sample(Prepared::Packed(_)) => {}
            Found::Sample(Prepared::Bad(problem)) => {
                state.seen += 1;
                state.problems.add(problem);
            }
            Found::Sample(Prepared::Ready(ready)) => {
                let is_repeated = self.options.dedup && !self.hashes.insert(ready.hash);
                if is_repeated {
                    state.seen += 1;
                    state.repeated += 1;
                    return Ok(());
                }
                let shard = match &mut self.shard {
                    Some(shard) => shard,
                    none => {
                        let number = state.shards.len();
                        let per_shard = self.options.samples_per_shard;
                        let capacity = capacity(per_shard, self.total, number as u64, state.seen);
                        let path = self.folder.join(shard_name(number));
                        none.insert(Shard::create(path, capacity)?)
                    }
                };
                shard.add(state.samples, &ready)?;
                state.seen += 1;
                state.samples += 1;
                state.bytes += ready.picture.len() as u64;
                state.resized += u64::from(ready.was.is_some());
                state.without_caption += u64::from(ready.caption.is_none());
                if shard.is_full() {
                    self.end_shard()?;
                }
            }
        }
        Ok(())
    }

    /// Gives the shard its name, and then says so in the journal: a kill between the two has it written again.
    fn end_shard(&mut self) -> Result<(), DataError> {
        if let Some(shard) = self.shard.take() {
            self.journal.state.shards.push(shard.finish()?);
            self.journal.write()?;
        }
        Ok(())
    }

    fn end(&mut self, source: &dyn Source) -> Result<(), DataError> {
        self.end_shard()?;
        let state = &mut self.journal.state;
        if state.shards.is_empty() {
            return Err(DataError::NoSamples {
                source_name: source.describe(),
                found: state.problems.to_string(),
            });
        }
        let sizes = state.shards.iter().enumerate();
        let sizes: Map<String, Value> = sizes
            .map(|(number, &size)| (shard_name(number), size.into()))
            .collect();
        let path = self.folder.join(SIZES);
        let text = format!("{:#}\n", Value::Object(sizes));
        atomic::write(&path, text).map_err(|source| DataError::Io { path, source })?;
        state.is_complete = true;
        self.journal.write()
    }
}

/// How many samples the next shard takes, when `shards` are finished and `seen` samples dealt with.
fn capacity(per_shard: u64, total: Option<u64>, shards: u64, seen: u64) -> u64 {
    let Some(total) = total else {
        return per_shard;
    };
    match total.div_ceil(per_shard).saturating_sub(shards) {
        // More than the source has said.
        0 => per_shard,
        left => total
            .saturating_sub(seen)
            .div_ceil(left)
            .clamp(1, per_shard),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_differ_by_one_sample_at_most() {
        for total in 1..60 {
            for per_shard in 1..20 {
                let (mut shards, mut seen) = (Vec::new(), 0);
                while seen < total {
                    let size = capacity(per_shard, Some(total), shards.len() as u64, seen);
                    let size = size.min(total - seen);
                    seen += size;
                    shards.push(size);
                }
                let (least, most) = (shards.iter().min(), shards.iter().max());
                assert!(most <= Some(&per_shard), "{shards:?}");
                assert!(most <= least.map(|least| least + 1).as_ref(), "{shards:?}");
                assert_eq!(shards.len() as u64, total.div_ceil(per_shard));
            }
        }
        // Without a count, and behind one that was too small, shards are full.
        assert_eq!(capacity(7, None, 3, 21), 7);
        assert_eq!(capacity(7, Some(10), 2, 10), 7);
    }
}
