//! `classify`: which caption fits a picture.

use std::collections::{BTreeSet, HashSet};

use openclip_eval::lines::read_labels;
use openclip_eval::run::{ZERO_SHOT_SCALE, host};
use openclip_eval::scores::{Score, scores};
use serde::Serialize;

use super::pictures::Pictures;
use super::session::Session;
use crate::args::classify::ClassifyArgs;
use crate::error::{Outcome, Result};
use crate::output::{Output, warn};

#[derive(Serialize)]
struct Answer<'a> {
    image: String,
    labels: Vec<Label<'a>>,
}

#[derive(Serialize)]
struct Label<'a> {
    text: &'a str,
    #[serde(flatten)]
    score: Score,
}

/// Prints, for every picture, how well each caption fits.
pub fn run(args: &ClassifyArgs) -> Result {
    let labels = labels(args)?;
    let pictures = Pictures::find(&args.image, args.pictures.limits());
    if pictures.is_empty() {
        return pictures.none(args.json.json);
    }
    let session = Session::open(&args.model, &args.preprocess, 0)?;
    let encoder = session.encoder();
    let temperature = encoder.temperature()?;
    let texts = encoder
        .texts(session.tokenizer()?.as_ref(), &labels)?
        .transpose();
    let mut is_finite = session.is_finite;
    let answer = |image: String, planes: Vec<u8>| {
        let cosines = host(encoder.images(planes, 1).matmul(texts.clone()))?;
        if is_finite && !cosines.iter().all(|cosine| cosine.is_finite()) {
            is_finite = false;
            warn(format!(
                "{image}: its scores are not finite; they say nothing"
            ));
        }
        let scores = scores(&cosines, ZERO_SHOT_SCALE, temperature);
        let labels = labels.iter().zip(scores);
        Ok(Answer {
            image,
            labels: labels.map(|(text, score)| Label { text, score }).collect(),
        })
    };
    let complete = pictures.each(&encoder, args.json.json, answer, lines)?;
    Ok(Outcome::of(complete && is_finite))
}

/// The captions of the command line, then those of the file.
fn labels(args: &ClassifyArgs) -> Result<Vec<String>> {
    let mut labels = args.text.clone();
    if let Some(path) = &args.texts {
        labels.extend(read_labels(path)?);
    }
    let mut seen = HashSet::new();
    let twice: BTreeSet<_> = labels.iter().filter(|label| !seen.insert(*label)).collect();
    if let Some(first) = twice.first() {
        warn(format!(
            "{} of the captions stand there more than once and share their probability; the first is {:?}",
            twice.len(),
            first
        ));
    }
    Ok(labels)
}

/// The likeliest caption first. One alone has nothing to be compared with, so its cosine is shown.
fn lines(answer: &Answer<'_>, out: &mut Output) -> Result<()> {
    out.line(&answer.image)?;
    let mut labels: Vec<&Label<'_>> = answer.labels.iter().collect();
    labels.sort_by(|a, b| b.score.cosine.total_cmp(&a.score.cosine));
    let is_alone = labels.len() == 1;
    for Label { text, score } in labels {
        let share = match is_alone {
            true => format!("cosine {:.4}", score.cosine),
            false => format!("{:5.1} %", 100.0 * score.prob),
        };
        let sigmoid = score
            .sigmoid
            .map(|sigmoid| format!("  sigmoid {sigmoid:.4}"));
        out.line(format_args!(
            "  {share}{}  {text}",
            sigmoid.unwrap_or_default()
        ))?;
    }
    Ok(())
}
