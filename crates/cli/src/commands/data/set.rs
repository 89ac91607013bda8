//! The data set of a command.

use std::sync::Arc;

use openclip_data::source::Source;
use openclip_data::source::open::open;
use openclip_data::survey::SurveyOptions;
use openclip_eval::progress::Progress;

use crate::args::dataset::SetArgs;
use crate::error::Result;

/// A set that was opened.
pub struct Set {
    /// Its samples.
    pub source: Arc<dyn Source>,
    /// Pictures become RGB before they are resized.
    pub rgb_first: bool,
    /// Threads, limits and how many samples.
    pub options: SurveyOptions,
    /// How many samples will be looked at, where that is known.
    pub total: Option<u64>,
}

impl Set {
    /// Opens a set, of which the first `most` samples are wanted, and which may be without a column of captions unless it
    /// `needs_captions`.
    pub fn open(args: &SetArgs, most: Option<u64>, needs_captions: bool) -> Result<Self> {
        let mut options = args.format.options(most);
        options.csv.columns.needs_captions = needs_captions;
        let opened = open(&args.data, &options)?;
        let source = opened.source;
        let known = source.num_samples(None).ok();
        let total = match (known, most) {
            (Some(known), Some(most)) => Some(known.min(most)),
            (known, most) => known.or(most),
        };
        Ok(Self {
            source,
            rgb_first: opened.rgb_first,
            options: SurveyOptions {
                threads: args.workers,
                limits: args.pictures.limits(),
                most,
            },
            total,
        })
    }

    /// How far the work has come.
    pub fn progress(&self, what: &str) -> Progress {
        Progress::new(what, self.total, "samples")
    }
}
