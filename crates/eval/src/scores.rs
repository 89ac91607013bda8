//! How well captions fit a picture, from their cosines.

use serde::Serialize;

/// What the model makes of the cosine of a picture and a caption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    /// Times the cosine.
    pub scale: f32,
    /// Added to it, in models whose captions are judged one by one, as SigLIP's.
    pub bias: Option<f32>,
}

/// How well a caption fits a picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Between the features, -1 to 1.
    pub cosine: f32,
    /// The model's own: its scale times the cosine, plus its bias.
    pub logit: f32,
    /// The softmax over all captions of `scale` times the cosine, which says how they compare.
    pub prob: f32,
    /// The sigmoid of the logit, of a model with a bias: how likely the caption is by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigmoid: Option<f32>,
}

/// Scores of all captions of a picture; `scale` is that of the softmax.
pub fn scores(cosines: &[f32], scale: f64, temperature: Temperature) -> Vec<Score> {
    let most = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |cosine: f32| (scale * f64::from(cosine - most)).exp();
    let sum: f64 = cosines.iter().map(|&cosine| weight(cosine)).sum();
    let one = |&cosine: &f32| {
        let logit = temperature.scale * cosine + temperature.bias.unwrap_or(0.0);
        Score {
            cosine,
            logit,
            prob: (weight(cosine) / sum) as f32,
            sigmoid: temperature.bias.map(|_| 1.0 / (1.0 + (-logit).exp())),
        }
    };
    cosines.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values by torch: `softmax`, `sigmoid`.
    #[test]
    fn softmax_and_sigmoid() {
        let siglip = Temperature {
            scale: 112.0,
            bias: Some(-12.9),
        };
        let found = scores(&[0.11, 0.09, 0.13], 100.0, siglip);
        let expected = [
            (0.117_310_43, -0.580_000_46, 0.358_932_26),
            (0.015_876_24, -2.819_999_7, 0.056_252_2),
            (0.866_813_3, 1.660_000_8, 0.840_237_56),
        ];
        for (score, (prob, logit, sigmoid)) in found.iter().zip(expected) {
            assert!((score.prob - prob).abs() < 1e-5, "{score:?}");
            assert!((score.logit - logit).abs() < 1e-5, "{score:?}");
            assert!(
                (score.sigmoid.unwrap_or(9.0) - sigmoid).abs() < 1e-5,
                "{score:?}"
            );
        }
    }

    #[test]
    fn a_cosine_that_is_no_number_makes_every_share_none() {
        let clip = Temperature {
            scale: 100.0,
            bias: None,
        };
        let found = scores(&[f32::NAN, 0.5], 100.0, clip);
        assert!(
            found
                .iter()
                .all(|score| score.prob.is_nan() && score.sigmoid.is_none())
        );
        assert!(scores(&[f32::NAN], 100.0, clip)[0].prob.is_nan());
    }
}
