//! Rows of a picture and a caption, from whatever `openclip_data` reads.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use openclip_data::error::DataError;
use openclip_data::source::open::{self, OpenOptions};
use openclip_data::source::{ImageData, Item, Order, Sample, Sink, Source};
use openclip_data::storage::Watch;

use super::pictures::{Bytes, Pictures};
use super::{Dataset, Targets};
use crate::error::EvalError;
use crate::gallery::plain;

/// A picture's name, where it is, and the text beside it.
pub(super) type Row = (String, ImageData, Option<String>);

/// Opens captioned pictures of any form.
pub(super) fn open(place: &str, options: &OpenOptions) -> Result<Dataset, EvalError> {
    let opened = open::open(place, options)?;
    let mut rows = Rows::default();
    // A sink that never breaks sees everything.
    let _ = opened.source.pass(&Order::sequential(), 0, &mut rows)?;
    if rows.problems > 0 && !rows.has_bytes {
        log::warn!(
            "{place}: {} rows without a picture or caption were passed over",
            rows.problems
        );
    }
    if !rows.has_bytes {
        return captioned(place, rows.rows, opened.named_by_picture);
    }
    let captions: Vec<Vec<String>> = rows
        .rows
        .into_iter()
        .map(|(.., caption)| caption.into_iter().collect())
        .collect();
    if captions.iter().all(Vec::is_empty) {
        return Err(nothing(place));
    }
    Ok(Dataset {
        len: captions.len(),
        pictures: Arc::new(Numbered(opened.source)),
        targets: Targets::Captions(captions),
    })
}

fn nothing(place: &str) -> EvalError {
    EvalError::list(place.as_ref(), "no picture with a caption in it")
}

/// Pictures with all their captions: rows of one name are one picture where `by_name` says so.
pub(super) fn captioned(what: &str, rows: Vec<Row>, by_name: bool) -> Result<Dataset, EvalError> {
    let mut pictures = Pictures::new(what);
    let mut captions: Vec<Vec<String>> = Vec::new();
    let mut seen = HashMap::new();
    let mut without = 0;
    for (name, image, caption) in rows {
        let Some(caption) = caption else {
            without += 1;
            continue;
        };
        let known = seen.get(&plain(&name)).copied().filter(|_| by_name);
        let number = match known {
            Some(number) => number,
            None => {
                seen.insert(plain(&name), captions.len());
                captions.push(Vec::new());
                pictures.push(name, Bytes::Whole(image))
            }
        };
        captions[number].push(caption);
    }
    if without > 0 {
        log::warn!("{what}: {without} rows without a caption were passed over");
    }
    if captions.is_empty() {
        return Err(nothing(what));
    }
    Ok(Dataset {
        len: captions.len(),
        pictures: Arc::new(pictures),
        targets: Targets::Captions(captions),
    })
}

/// Takes note of every sample, without the bytes of its picture.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    has_bytes: bool,
    problems: u64,
}

impl Sink for Rows {
    fn jump(&mut self, _: usize) -> usize {
        0
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        match item {
            Item::Sample(sample) => {
                let image = match sample.image {
                    ImageData::Encoded(_) => {
                        self.has_bytes = true;
                        ImageData::Black
                    }
                    image => image,
                };
                self.rows.push((sample.name, image, sample.caption));
            }
            Item::Problem(problem) => {
                self.problems += u64::from(problem.kind.drops_sample());
            }
        }
        ControlFlow::Continue(())
    }
}

/// A source whose samples are numbered as they come.
struct Numbered(Arc<dyn Source>);

impl Source for Numbered {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn num_samples(&self, train_num_samples: Option<u64>) -> Result<u64, DataError> {
        self.0.num_samples(train_num_samples)
    }

    fn batches(&self, samples: u64, world: usize, batch_size: usize) -> u64 {
        self.0.batches(samples, world, batch_size)
    }

    fn partitions(self: Arc<Self>, _: u64) -> Result<Vec<Arc<dyn Source>>, DataError> {
        Ok(vec![self])
    }

    fn fingerprint(&self) -> u32 {
        self.0.fingerprint()
    }

    fn pass(
        &self,
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        self.0.pass(order, pass, &mut Numbering { sink, next: 0 })
    }
}

struct Numbering<'a> {
    sink: &'a mut dyn Sink,
    next: usize,
}

impl Sink for Numbering<'_> {
    fn jump(&mut self, _: usize) -> usize {
        0
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        let Item::Sample(sample) = item else {
            return self.sink.push(item);
        };
        let label = Some(self.next);
        self.next += 1;
        self.sink.push(Item::Sample(Sample { label, ..sample }))
    }

    fn is_closed(&self) -> bool {
        self.sink.is_closed()
    }

    fn watch(&self) -> Watch {
        self.sink.watch()
    }
}
