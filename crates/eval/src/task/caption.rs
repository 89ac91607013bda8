//! Captions for pictures, and how well they agree with those that people wrote.

use openclip_model::generate::{GenerateOptions, SpecialTokens};

use super::bootstrap::estimate;
use super::evaluator::Evaluator;
use super::kind::Task;
use super::report::Report;
use crate::captioning::{Bleu, Pair, cider, rouge};
use crate::dataset::Dataset;
use crate::error::EvalError;

impl Evaluator {
    pub(super) fn caption(
        &self,
        name: &str,
        set: &Dataset,
        captions: &[Vec<String>],
        options: &GenerateOptions,
    ) -> Result<Report, EvalError> {
        let model = self.encoder.model();
        if !model.writes_captions() {
            let problem = format!(
                "{} needs a model that writes captions, such as coca_ViT-B-32",
                Task::Captioning
            );
            return Err(EvalError::list(name.as_ref(), problem));
        }
        let options = GenerateOptions {
            seq_len: options.seq_len.min(model.longest_caption()?),
            ..options.clone()
        };
        let mut pairs = Vec::with_capacity(set.len);
        self.each_batch(name, set, |batch| {
            let pixels = self.encoder.pixels(batch.images, batch.size);
            let written = model.generate(pixels, &options)?;
            for (tokens, number) in written.iter().zip(batch.labels) {
                let right = &captions[number];
                if !right.is_empty() {
                    pairs.push(Pair::new(&self.words(tokens, &options.special), right));
                }
            }
            Ok(())
        })?;
        if pairs.is_empty() {
            return Err(EvalError::list(name.as_ref(), "there is no caption in it"));
        }
        log::info!("{name}: METEOR and SPICE are left out, which need Java");
        let mut report = Report::new(true);
        let bleus: Vec<Bleu> = pairs.iter().map(Bleu::of).collect();
        let rouges: Vec<f64> = pairs.iter().map(rouge).collect();
        let ciders = cider(&pairs);
        report.add_all(estimate(pairs.len(), |times| {
            let mut all = Bleu::default();
            for (bleu, &times) in bleus.iter().zip(times) {
                all.add(bleu, u64::from(times));
            }
            let scores = all.scores().into_iter().enumerate();
            let mut metrics: Vec<(String, f64)> = scores
                .map(|(at, score)| (format!("Bleu_{}", at + 1), score))
                .collect();
            metrics.push(("ROUGE_L".into(), mean(&rouges, times)));
            metrics.push(("CIDEr".into(), mean(&ciders, times)));
            metrics
        }));
        Ok(report)
    }

    /// The text between the special tokens.
    fn words(&self, tokens: &[i32], special: &SpecialTokens) -> String {
        let inner = tokens.iter().copied().skip_while(|&id| id == special.start);
        let inner: Vec<i32> = inner.take_while(|&id| id != special.end).collect();
        self.tokenizer.decode(&inner).trim().to_owned()
    }
}

fn mean(values: &[f64], times: &[u32]) -> f64 {
    let sum: f64 = values
        .iter()
        .zip(times)
        .map(|(value, times)| value * f64::from(*times))
        .sum();
    sum / values.len() as f64
}
