//! Which caption belongs to which picture, among a few of each.

use super::bootstrap::{estimate, share};
use super::evaluator::Evaluator;
use super::report::Report;
use crate::dataset::{Choice, Dataset, Targets};
use crate::error::EvalError;
use crate::host::host;

impl Evaluator {
    pub(super) fn select(
        &self,
        name: &str,
        set: &Dataset,
        targets: &Targets,
    ) -> Result<Report, EvalError> {
        // Of a picture's captions in a list the first is right.
        let listed: Vec<Choice>;
        let choices = match targets {
            Targets::Choices(choices) => choices,
            Targets::Captions(captions) => {
                listed = captions
                    .iter()
                    .enumerate()
                    .map(|(picture, captions)| Choice {
                        pictures: vec![picture],
                        captions: captions.clone(),
                    })
                    .collect();
                &listed
            }
            Targets::Labels { .. } | Targets::Cues(_) => return Err(EvalError::NoSamples),
        };
        let images = self.features(name, set)?;
        let mut row_of = vec![None; set.len];
        for (row, &number) in images.numbers.iter().enumerate() {
            row_of[number] = Some(row);
        }
        let texts: Vec<&str> = choices
            .iter()
            .flat_map(|choice| choice.captions.iter().map(String::as_str))
            .collect();
        let width = images.rows.dims()[1];
        let texts = host(self.captions(name, &texts)?)?;
        let images = host(images.rows)?;
        let is_finite = texts.iter().chain(&images).all(|value| value.is_finite());
        let row = |rows: &[f32], at: usize| rows[at * width..(at + 1) * width].to_vec();
        let (mut by_image, mut by_text) = (Vec::new(), Vec::new());
        let mut first = 0;
        for choice in choices {
            let own = first..first + choice.captions.len();
            first = own.end;
            let pictures: Option<Vec<usize>> = choice
                .pictures
                .iter()
                .map(|picture| row_of[*picture])
                .collect();
            let Some(pictures) = pictures else {
                continue;
            };
            let scores: Vec<Vec<f32>> = pictures
                .iter()
                .map(|&picture| {
                    let image = row(&images, picture);
                    own.clone()
                        .map(|text| dot(&image, &row(&texts, text)))
                        .collect()
                })
                .collect();
            let (picture_found, caption_found) = matched(&scores);
            by_image.push(picture_found);
            by_text.push(caption_found);
        }
        let both: Vec<bool> = by_image
            .iter()
            .zip(&by_text)
            .map(|(a, b)| *a && *b)
            .collect();
        if both.is_empty() {
            return Err(EvalError::list(
                name.as_ref(),
                "no picture of it can be used",
            ));
        }
        let mut report = Report::new(is_finite);
        report.add_all(estimate(both.len(), |times| {
            vec![
                ("image_acc".into(), share(&by_image, times)),
                ("text_acc".into(), share(&by_text, times)),
                ("acc".into(), share(&both, times)),
            ]
        }));
        Ok(report)
    }
}

/// Whether every caption has the highest score with its own picture, and every picture with its own caption; `scores[picture][caption]`.
fn matched(scores: &[Vec<f32>]) -> (bool, bool) {
    let captions = scores.first().map_or(0, Vec::len);
    let pairs = scores.len().min(captions);
    let picture_of = |caption: usize| highest(scores.len(), |picture| scores[picture][caption]);
    let caption_of = |picture: usize| highest(captions, |caption| scores[picture][caption]);
    (
        (0..pairs).all(|at| picture_of(at) == at),
        (0..pairs).all(|at| caption_of(at) == at),
    )
}

/// The first place with the highest score; a NaN is never one.
fn highest(count: usize, score: impl Fn(usize) -> f32) -> usize {
    let above = |best: usize, at: usize| if score(at) > score(best) { at } else { best };
    (0..count).reduce(above).unwrap_or_default()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_pairs_and_one_picture() {
        // Every caption fits its own picture best, but the first picture takes the second caption.
        assert_eq!(matched(&[vec![0.5, 0.6], vec![0.4, 0.9]]), (true, false));
        assert_eq!(matched(&[vec![0.5, 0.6], vec![0.7, 0.9]]), (false, false));
        assert_eq!(matched(&[vec![0.8, 0.6], vec![0.7, 0.9]]), (true, true));
        assert_eq!(matched(&[vec![0.8, 0.6]]), (true, true));
        assert_eq!(matched(&[vec![0.2, 0.6, 0.1]]), (true, false));
    }
}
