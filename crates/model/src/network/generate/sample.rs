//! Sampling: one caption a picture, each token drawn from those that a filter leaves.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::options::{Filter, GenerateOptions, Sampling};
use super::stepper::Stepper;
use crate::files::ModelError;

/// Token ids of one length for each picture.
pub(super) fn run(
    stepper: &mut Stepper<'_>,
    pictures: usize,
    prompt: &[i32],
    sampling: &Sampling,
    options: &GenerateOptions,
) -> Result<Vec<Vec<i32>>, ModelError> {
    let special = options.special;
    let mut rng = StdRng::seed_from_u64(sampling.seed);
    let mut captions = vec![prompt.to_vec(); pictures];
    let ended = |caption: &Vec<i32>| {
        let last = caption.last().copied();
        last == Some(special.end) || last == Some(special.pad)
    };
    for length in prompt.len()..options.seq_len {
        if captions.iter().all(ended) {
            break;
        }
        let logits = stepper.logits(&captions)?;
        for (caption, mut logits) in captions.iter_mut().zip(logits) {
            let token = if ended(caption) {
                special.pad
            } else if length + 1 == options.seq_len {
                special.end
            } else {
                options.process(caption, &mut logits);
                sampling.filter.apply(&mut logits);
                draw(&logits, sampling.temperature, rng.random())
            };
            caption.push(token);
        }
    }
    Ok(captions)
}

impl Filter {
    /// Sets the logits of tokens that may not be drawn to −∞.
    fn apply(self, logits: &mut [f32]) {
        let least = match self {
            Self::TopK(k) => {
                let at = k.min(logits.len()).saturating_sub(1);
                let mut sorted = logits.to_vec();
                match sorted.is_empty() {
                    true => return,
                    false => *sorted.select_nth_unstable_by(at, |a, b| b.total_cmp(a)).1,
                }
            }
            Self::TopP(share) => return top_p(logits, share),
        };
        let below = logits.iter_mut().filter(|logit| **logit < least);
        below.for_each(|logit| *logit = f32::NEG_INFINITY);
    }
}

/// Drops the least likely tokens whose probabilities add up to at most `1 − share`, but never the likeliest.
fn top_p(logits: &mut [f32], share: f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let Some((&likeliest, others)) = order.split_last() else {
        return;
    };
    let max = logits[likeliest];
    let weight = |logit: f32| f64::from(logit - max).exp();
    let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let mut sum = 0.0;
    for &token in others {
        sum += weight(logits[token]) / total;
        if sum > 1.0 - f64::from(share) {
            break;
        }
        logits[token] = f32::NEG_INFINITY;
    }
}

/// The token at which the softmax of `logits / temperature`, summed from the first token, passes `point` in [0, 1).
fn draw(logits: &[f32], temperature: f32, point: f64) -> i32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from((logit - max) / temperature).exp();
    let mut left = point * logits.iter().map(|&logit| weight(logit)).sum::<f64>();
    let mut drawn = 0;
    for (token, &logit) in (0..).zip(logits) {
        let weight = weight(logit);
        if weight > 0.0 {
            drawn = token;
            if left < weight {
                break;
            }
            left -= weight;
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn filters_keep_the_largest() {
        let logits = [1.0, 3.0, 2.0, 3.0, 0.0];
        let kept = |filter: Filter| {
            let mut logits = logits;
            filter.apply(&mut logits);
            logits
        };
        assert_eq!(kept(Filter::TopK(1)), [NO, 3.0, NO, 3.0, NO]);
        assert_eq!(kept(Filter::TopK(3)), [NO, 3.0, 2.0, 3.0, NO]);
        assert_eq!(kept(Filter::TopK(9)), logits);
        assert_eq!(kept(Filter::TopP(1.0)), logits);
        assert_eq!(kept(Filter::TopP(0.0)), [NO, NO, NO, 3.0, NO]);
        // Shares: 0.051, 0.377, 0.139, 0.377, 0.019.
        assert_eq!(kept(Filter::TopP(0.8)), [NO, 3.0, 2.0, 3.0, NO]);
    }

    #[test]
    fn tokens_are_drawn_by_their_share() {
        let logits = [0.0, NO, 3.0_f32.ln()];
        assert_eq!(
            [0.0, 0.24, 0.26, 0.99].map(|p| draw(&logits, 1.0, p)),
            [0, 0, 2, 2]
        );
        // Halved logarithms: weights 1 and √3.
        assert_eq!([0.36, 0.37].map(|p| draw(&logits, 2.0, p)), [0, 2]);
    }
}
