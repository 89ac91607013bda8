//! The features of a set's pictures.

use std::sync::Arc;

use burn::tensor::Tensor;
use openclip_data::image::eval_transform;
use openclip_data::loader::{Batch, Loader, LoaderOptions};
use openclip_data::source::Order;

use super::evaluator::Evaluator;
use crate::dataset::Dataset;
use crate::error::EvalError;
use crate::progress::Progress;
use crate::validation::tell_passed_over;

/// Features of the pictures that could be read.
pub(super) struct Features {
    /// `[pictures, embed_dim]`, of unit length.
    pub rows: Tensor<2>,
    /// The number of each picture in its set.
    pub numbers: Vec<usize>,
}

impl Evaluator {
    /// Hands over all batches of a set's pictures, whose labels are their numbers. What cannot be used is told.
    pub(super) fn each_batch(
        &self,
        name: &str,
        set: &Dataset,
        mut each: impl FnMut(Batch) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let (encoder, loading) = (&self.encoder, &self.loading);
        // Every reader of CLIP_benchmark's makes pictures RGB first.
        let transform = eval_transform(
            encoder.image_size,
            &encoder.preprocess,
            true,
            loading.limits,
        )?;
        let options = LoaderOptions {
            workers: loading.workers,
            ..LoaderOptions::new(loading.batch_size, encoder.image_size, Order::sequential())
        };
        let progress = self.progress(name, set.len as u64, "images");
        let source = Arc::clone(&set.pictures);
        let mut batches = Loader::start(source, transform, None, &options)?;
        let mut count = 0;
        for batch in batches.by_ref() {
            let batch = batch?;
            let size = batch.size;
            each(batch)?;
            count += size;
            progress.inc(size as u64);
        }
        progress.finish();
        tell_passed_over(name, &batches.stats());
        match count {
            0 => Err(EvalError::list(
                name.as_ref(),
                "no picture of it can be used",
            )),
            _ => Ok(()),
        }
    }

    /// Features of all pictures of a set.
    pub(super) fn features(&self, name: &str, set: &Dataset) -> Result<Features, EvalError> {
        let (mut rows, mut numbers) = (Vec::new(), Vec::with_capacity(set.len));
        self.each_batch(name, set, |batch| {
            rows.push(self.encoder.images(batch.images, batch.size));
            numbers.extend(batch.labels);
            Ok(())
        })?;
        Ok(Features {
            rows: Tensor::cat(rows, 0),
            numbers,
        })
    }

    pub(super) fn progress(&self, what: &str, total: u64, unit: &str) -> Progress {
        match self.loading.show_progress {
            true => Progress::new(what, Some(total), unit),
            false => Progress::hidden(),
        }
    }
}
