//! Pictures of a few samples, by their names.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::inspect::thumbnail;
use super::options::SurveyOptions;
use super::sample::{decoded, read};
use super::walk::{Found, Walk};
use crate::error::DataError;
use crate::image::Picture;
use crate::source::{Sample, Source};
use crate::storage::Watch;

/// The pictures, as small as on a sheet, of the samples of `source` that have one of `names`; of samples that share a name, the first. One that cannot be read
/// is told in the log and left out, as one that is not there.
///
/// # Errors
/// When the source cannot be read on.
pub fn fetch(
    source: &dyn Source,
    names: &HashSet<String>,
    options: &SurveyOptions,
) -> Result<HashMap<String, Picture>, DataError> {
    let walk = Walk {
        threads: options.threads,
        skip: 0,
        most: options.most,
    };
    let work = |_, sample: Sample, watch: &Watch| {
        let name = names.get(&sample.name)?;
        let place = sample.place();
        let picture = read(sample, &place, watch)
            .and_then(|read| decoded(&read.bytes.unwrap_or_default(), options.limits, &place));
        Some((name.clone(), picture.map(thumbnail)))
    };
    let mut found = HashMap::new();
    let mut left = names.clone();
    let mut failed = None;
    walk.run(source, work, |_, item| {
        if let Found::Sample(Some((name, picture))) = item
            && left.remove(&name)
        {
            match picture {
                Ok(Ok(picture)) => {
                    found.insert(name, picture);
                }
                Ok(Err(error)) => failed = Some(error),
                Err(problem) => log::warn!("{problem}"),
            }
        }
        match left.is_empty() || failed.is_some() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(found),
    }
}
