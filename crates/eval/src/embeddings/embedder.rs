//! From pictures and captions to the files of partitions.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use openclip_data::error::DataError;
use openclip_data::image::Transform;
use openclip_data::loader::{Batch, Loader, LoaderOptions};
use openclip_data::source::Source;
use openclip_data::tokenizer::Tokenizer;

use super::contents::Contents;
use super::folder::{Claim, Folder};
use super::npy::Numbers;
use super::record::Record;
use super::writer::EmbeddingWriter;
use crate::encode::Encoder;
use crate::error::EvalError;
use crate::host::host;
use crate::progress::Progress;

/// Captions between two steps of the progress display.
const CAPTIONS: usize = 1024;

/// What goes into each partition.
#[derive(Clone, Default)]
pub struct Plan {
    /// Pictures, for as many partitions as there are of them.
    pub images: Vec<Arc<dyn Source>>,
    /// Captions that are not those of the pictures.
    pub texts: Arc<Vec<String>>,
    /// How many of them are in a partition.
    pub size: usize,
}

impl Plan {
    /// How many partitions there are.
    pub fn count(&self) -> usize {
        let of_texts = self.texts.len().div_ceil(self.size.max(1));
        self.images.len().max(of_texts)
    }

    fn texts(&self, number: usize) -> &[String] {
        let len = self.texts.len();
        let at = |number: usize| number.saturating_mul(self.size).min(len);
        let Range { start, end } = at(number)..at(number + 1);
        &self.texts[start..end]
    }
}

/// Where a model's tokenizer comes from when one is wanted: pictures alone need none.
pub type Tokenizers<'a> = dyn Fn() -> Result<Arc<dyn Tokenizer>, DataError> + 'a;

/// A model on one device, and how pictures come to it.
pub struct Embedder<'a> {
    /// The model.
    pub encoder: Encoder,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizers<'a>,
    /// What becomes of a picture; `None` where there are captions alone.
    pub transform: Option<Arc<Transform>>,
    /// How batches are made.
    pub options: LoaderOptions,
    /// Values of a row.
    pub width: usize,
    /// What is written.
    pub contents: Contents,
    /// In which form.
    pub numbers: Numbers,
    /// Where the count is shown.
    pub progress: &'a Progress,
}

/// A partition that nobody else works on, with its pictures on their way.
struct Begun {
    claim: Claim,
    loader: Option<Loader>,
}

/// A partition that is being written.
struct Work<'a> {
    embedder: &'a Embedder<'a>,
    writer: EmbeddingWriter,
    record: Record,
}

impl Embedder<'_> {
    /// Works on one partition after another, until none is left that nobody else is at.
    ///
    /// # Errors
    /// When pictures cannot be read on, the device fails, or a file cannot be written.
    pub fn run(&self, folder: &Folder, plan: &Plan) -> Result<(), EvalError> {
        let mut next = self.begin(folder, plan)?;
        while let Some(Begun { claim, loader }) = next.take() {
            let mut work = Work::new(self, &claim);
            if let Some(mut loader) = loader {
                work.pictures(&mut loader, || {
                    // The first batches of the next partition are made while the last ones of this go through the model.
                    if next.is_none() {
                        next = self.begin(folder, plan)?;
                    }
                    Ok(())
                })?;
                work.record.problems = loader.stats().problems;
            }
            work.texts(plan.texts(claim.number))?;
            claim.finish(&work.finish()?)?;
            if next.is_none() {
                next = self.begin(folder, plan)?;
            }
        }
        Ok(())
    }

    fn begin(&self, folder: &Folder, plan: &Plan) -> Result<Option<Begun>, EvalError> {
        let passed = |record: &Record| self.progress.pass_over(self.contents.count(record));
        let Some(claim) = folder.claim(passed)? else {
            return Ok(None);
        };
        let source = plan.images.get(claim.number);
        // Without a tokenizer the loader asks for no caption, so a picture whose caption is missing keeps its row.
        let loader = source
            .zip(self.transform.as_ref())
            .map(|(source, transform)| {
                Loader::start(
                    Arc::clone(source),
                    Arc::clone(transform),
                    None,
                    &self.options,
                )
            });
        Ok(Some(Begun {
            claim,
            loader: loader.transpose()?,
        }))
    }
}

impl<'a> Work<'a> {
    fn new(embedder: &'a Embedder<'a>, claim: &Claim) -> Self {
        let Embedder {
            width,
            numbers,
            contents,
            ..
        } = *embedder;
        Self {
            writer: EmbeddingWriter::new(claim.partition.clone(), width, numbers, contents),
            embedder,
            record: Record::default(),
        }
    }

    /// Embeds a partition's pictures, and their captions where they are wanted. `ending` is called when the last of them were read.
    fn pictures(
        &mut self,
        loader: &mut Loader,
        mut ending: impl FnMut() -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let encoder = &self.embedder.encoder;
        let mut waiting = None;
        loop {
            let mut batch = match loader.next() {
                Some(Ok(batch)) => batch,
                // That all of a partition is unusable says nothing about the others.
                Some(Err(DataError::NoSamples { .. })) | None => break,
                Some(Err(error)) => return Err(error.into()),
            };
            if loader.is_read() {
                ending()?;
            }
            // While the device computes, the batch before is written.
            let features = encoder.images(std::mem::take(&mut batch.images), batch.size);
            if let Some((features, batch)) = waiting.replace((features, batch)) {
                self.write(features, batch)?;
            }
        }
        match waiting {
            Some((features, batch)) => self.write(features, batch),
            None => Ok(()),
        }
    }

    fn write(&mut self, features: Tensor<2>, mut batch: Batch) -> Result<(), EvalError> {
        let rows = self.rows(features)?;
        self.writer.append_images(&rows, &batch.names)?;
        self.writer.append_fields(std::mem::take(&mut batch.fields));
        if self.embedder.contents == Contents::Paired {
            self.captions(&mut batch.captions)?;
        }
        self.embedder.progress.inc(batch.size as u64);
        Ok(())
    }

    /// Embeds captions without pictures.
    fn texts(&mut self, texts: &[String]) -> Result<(), EvalError> {
        for slice in texts.chunks(CAPTIONS) {
            let mut captions: Vec<_> = slice.iter().cloned().map(Some).collect();
            self.captions(&mut captions)?;
            self.embedder.progress.inc(slice.len() as u64);
        }
        Ok(())
    }

    /// Appends a row for each caption that the tokenizer has ids for; one that it has none for is taken away.
    fn captions(&mut self, captions: &mut [Option<String>]) -> Result<(), EvalError> {
        let mut ids = Vec::new();
        if captions.iter().any(Option::is_some) {
            let tokenizer = (self.embedder.tokenizer)()?;
            for caption in captions.iter_mut() {
                let Some(text) = caption else { continue };
                match tokenizer.tokenize(text) {
                    Ok(row) => ids.push(row),
                    Err(_) => {
                        *caption = None;
                        self.record.without_ids += 1;
                    }
                }
            }
        }
        let rows = match ids.is_empty() {
            true => Vec::new(),
            false => self.rows(self.embedder.encoder.rows(&ids)?)?,
        };
        self.writer.append_texts(&rows, captions)
    }

    /// Brings features to the host and looks at them.
    fn rows(&mut self, features: Tensor<2>) -> Result<Vec<f32>, EvalError> {
        let [_, width] = features.dims();
        let rows = host(features)?;
        let is_bad = |row: &&[f32]| !row.iter().all(|value| value.is_finite());
        self.record.not_finite += rows.chunks_exact(width.max(1)).filter(is_bad).count() as u64;
        Ok(rows)
    }

    fn finish(self) -> Result<Record, EvalError> {
        let mut record = self.record;
        [record.images, record.texts] = self.writer.finish()?;
        Ok(record)
    }
}
