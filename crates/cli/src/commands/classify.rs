//! `classify`: which caption fits a picture.

use std::path::Path;

use burn::tensor::activation::softmax;
use openclip_data::image::{Limits, decode};
use openclip_eval::run::{ZERO_SHOT_SCALE, host};
use serde::Serialize;

use super::session::Session;
use crate::args::classify::ClassifyArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::Output;

#[derive(Serialize)]
struct Answer<'a> {
    image: String,
    labels: Vec<Label<'a>>,
}

#[derive(Serialize)]
struct Label<'a> {
    text: &'a str,
    prob: f32,
}

/// Prints the softmax over 100 times the cosine, for every picture.
pub fn run(args: &ClassifyArgs) -> Result {
    // A picture that is not there should not cost the time of loading a model.
    let pictures: Vec<_> = args
        .image
        .iter()
        .map(|path| read(path))
        .collect::<Result<_>>()?;
    let session = Session::open(&args.model, &args.preprocess, 0)?;
    let encoder = session.encoder();
    let texts = encoder
        .texts(session.tokenizer()?.as_ref(), &args.text)?
        .transpose();
    let mut answers = Vec::new();
    for (path, picture) in args.image.iter().zip(&pictures) {
        let logits = encoder
            .picture(picture)?
            .matmul(texts.clone())
            .mul_scalar(ZERO_SHOT_SCALE);
        let probabilities = host(softmax(logits, 1))?;
        let labels = args
            .text
            .iter()
            .zip(probabilities)
            .map(|(text, prob)| Label { text, prob });
        answers.push(Answer {
            image: path.to_string_lossy().into_owned(),
            labels: labels.collect(),
        });
    }
    let mut out = Output::stdout();
    if args.json.json {
        out.json(&answers)?;
        return Ok(Outcome::Done);
    }
    for mut answer in answers {
        answer.labels.sort_by(|a, b| b.prob.total_cmp(&a.prob));
        out.line(&answer.image)?;
        for Label { text, prob } in answer.labels {
            out.line(format_args!("  {:5.1} %  {text}", 100.0 * prob))?;
        }
    }
    out.finish()?;
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<openclip_data::image::Picture> {
    let bytes = std::fs::read(path).map_err(CliError::file(path))?;
    decode(&bytes, Limits::default()).map_err(|source| CliError::Picture {
        path: path.to_owned(),
        source,
    })
}
