//! Whether every sample of a set can be read and decoded.

use std::ops::ControlFlow;

use serde::Serialize;

use super::options::SurveyOptions;
use super::problems::{ProblemCount, Problems};
use super::sample::{decoded, read};
use super::walk::{Found, Walk};
use crate::error::DataError;
use crate::source::{Problem, ProblemKind, Sample, Source};
use crate::storage::Watch;

/// Something that is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The shard, where there is one.
    pub shard: Option<String>,
    /// The sample's key or the picture's path; `None` for a whole shard.
    pub key: Option<String>,
    /// The kind of problem, in words.
    pub kind: String,
    /// What was found.
    pub reason: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What was read, in words.
    pub source: String,
    /// Samples that are as they should be.
    pub whole: u64,
    /// Encoded bytes of their pictures.
    pub bytes: u64,
    /// Samples and shards that are broken.
    pub broken: u64,
    /// Problems by kind, the harmless ones too.
    pub problems: Vec<ProblemCount>,
    /// Why the source could not be read to its end.
    pub stopped: Option<String>,
}

impl Verified {
    /// Whether nothing is broken.
    pub fn is_whole(&self) -> bool {
        self.broken == 0 && self.stopped.is_none()
    }
}

/// Reads and decodes every sample. `broken` takes what is wrong, in the order of the source; `done` takes the number of samples that
/// were looked at since its last call. A sample without a caption counts as broken, since none can be trained on.
///
/// # Errors
/// When a thread panics, or `broken` fails.
pub fn verify<E: From<DataError>>(
    source: &dyn Source,
    options: &SurveyOptions,
    mut broken: impl FnMut(&Broken) -> Result<(), E>,
    done: impl Fn(u64),
) -> Result<Verified, E> {
    let mut verified = Verified {
        source: source.describe(),
        ..Verified::default()
    };
    let (mut problems, mut failed) = (Problems::default(), None);
    let walk = Walk {
        threads: options.threads,
        skip: 0,
        most: options.most,
    };
    let limits = options.limits;
    let work = |_, sample: Sample, watch: &Watch| -> Result<u64, Box<(Broken, Problem)>> {
        let place = sample.place();
        let (shard, key) = (sample.shard.clone(), sample.shown_name());
        let checked = check(sample, &place, limits, watch);
        checked.map_err(|problem| {
            let shard = shard.map(|shard| shard.to_string());
            Box::new((entry(shard, Some(key), &problem), problem))
        })
    };
    let walked = walk.run(source, work, |_, found| {
        let (entry, problem) = match found {
            Found::Sample(Ok(bytes)) => {
                verified.whole += 1;
                verified.bytes += bytes;
                done(1);
                return ControlFlow::Continue(());
            }
            Found::Sample(Err(told)) => {
                done(1);
                *told
            }
            Found::Problem(problem) => {
                let (shard, key) = parts(&problem);
                (entry(shard, key, &problem), problem)
            }
        };
        let is_harmless = problem.kind.is_harmless();
        problems.add(problem);
        let told = if is_harmless { Ok(()) } else { broken(&entry) };
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    match walked {
        Ok(_) => {}
        Err(error @ DataError::WorkerPanicked { .. }) => return Err(error.into()),
        Err(error) => verified.stopped = Some(error.to_string()),
    }
    verified.broken = problems.broken();
    verified.problems = problems.counts();
    Ok(verified)
}

/// The encoded bytes of a sample's picture, or what is wrong with the sample.
fn check(
    sample: Sample,
    place: &str,
    limits: crate::image::Limits,
    watch: &Watch,
) -> Result<u64, Problem> {
    let sample = read(sample, place, watch)?;
    if let Some(bytes) = &sample.bytes {
        decoded(bytes, limits, place)?;
    }
    match sample.caption {
        Some(_) => Ok(sample.bytes.map_or(0, |bytes| bytes.len() as u64)),
        None => Err(Problem {
            kind: ProblemKind::MissingCaption,
            place: place.to_owned(),
            reason: "a picture without text".to_owned(),
        }),
    }
}

fn entry(shard: Option<String>, key: Option<String>, problem: &Problem) -> Broken {
    Broken {
        shard,
        key,
        kind: problem.kind.to_string(),
        reason: problem.reason.clone(),
    }
}

/// Shard and key of a problem that the source tells of.
fn parts(problem: &Problem) -> (Option<String>, Option<String>) {
    let place = problem.place.clone();
    if problem.kind.is_of_shard() {
        return (Some(place), None);
    }
    match place.split_once(": ") {
        Some((shard, key)) => (Some(shard.to_owned()), Some(key.to_owned())),
        None => (None, Some(place)),
    }
}
