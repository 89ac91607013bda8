//! Rows of a picture and a caption, from whatever `openclip_data` reads.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use openclip_data::source::open::{self, OpenOptions};
use openclip_data::source::{ImageData, Item, Order, Sink};

use super::numbered::Numbered;
use super::pictures::{Bytes, Pictures};
use super::targets::{Dataset, Targets};
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
        log::debug!("{place}: {} rows have no picture", rows.problems);
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
            // It keeps its number.
            Item::Problem(problem) => {
                self.problems += u64::from(problem.kind.drops_sample());
                self.rows.push((problem.place, ImageData::Black, None));
            }
        }
        ControlFlow::Continue(())
    }
}
