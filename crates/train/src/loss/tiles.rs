//! Contrastive losses and their gradients, some rows of the logits at a time.
//!
//! A rank takes the rows of its own pairs against the columns of all; the sums over the ranks of what it finds are the whole
//! batch's. No more than [`TILE`] logits exist at once, so memory grows with the number of pairs and not with its square.

use std::ops::Range;

use burn::tensor::{DType, Int, Tensor};

use openclip_model::layers::flex::contrast::{Contrast, contrast};
use openclip_model::layers::flex::is_on;

use super::pair::{PairLoss, Tile};

/// Logits of one tile: 64 MiB of each intermediate value.
pub const TILE: usize = 1 << 24;

/// Features `[pairs, embed_dim]` of pictures and captions, of unit length, in f32, without graph.
pub type Features = [Tensor<2>; 2];

/// What turns cosines into logits.
#[derive(Debug, Clone)]
pub struct Temperature {
    /// `exp(logit_scale)`, `[1]`.
    pub scale: Tensor<1>,
    /// `[1]`, where the model has one.
    pub bias: Option<Tensor<1>>,
}

impl Temperature {
    fn logits(&self, cosines: Tensor<2>) -> Tensor<2> {
        let logits = cosines * self.scale.clone().unsqueeze();
        match &self.bias {
            Some(bias) => logits + bias.clone().unsqueeze(),
            None => logits,
        }
    }
}

/// A rank's share of the losses and of their gradients.
#[derive(Debug, Clone)]
pub struct Share {
    /// Of each loss with its weight, `[1]`.
    pub losses: Vec<Tensor<1>>,
    /// Gradient of every pair's features, of other ranks' too.
    pub features: Features,
    /// Gradient of the scale (not of its logarithm), `[1]`.
    pub scale: Tensor<1>,
    /// Gradient of the bias, `[1]`.
    pub bias: Tensor<1>,
}

/// The share of the rows `own` in the weighted `losses` of `features`, at most `most` logits at a time.
///
/// A teacher's features stand in the order of the student's.
pub fn share(
    losses: &[(&dyn PairLoss, f64)],
    features: &Features,
    own: Range<usize>,
    temperature: &Temperature,
    teacher: Option<(&Features, &Temperature)>,
    most: usize,
) -> Share {
    if let Some(share) = in_cache(losses, features, &own, temperature, most) {
        return share;
    }
    let [pairs, _] = features[0].dims();
    let device = features[0].device();
    let zero = Tensor::<1>::zeros([1], (&device, DType::F32));
    let mut sums = Share {
        losses: vec![zero.clone(); losses.len()],
        features: features.each_ref().map(Tensor::zeros_like),
        scale: zero.clone(),
        bias: zero,
    };
    let columns = Tensor::<1, Int>::arange(0..pairs as i64, &device).unsqueeze_dim::<2>(0);
    let height = (most / pairs.max(1)).clamp(1, own.len().max(1));
    for (side, other) in [(0, 1), (1, 0)] {
        let counts = |loss: &dyn PairLoss| side == 0 || loss.is_two_sided();
        if !losses.iter().any(|(loss, _)| counts(*loss)) {
            continue;
        }
        for first in own.clone().step_by(height) {
            let rows = first..own.end.min(first + height);
            let [a, b] = [
                features[side].clone().slice_dim(0, rows.clone()),
                features[other].clone(),
            ];
            let cosines = a.clone().matmul(b.clone().transpose());
            let numbers = Tensor::<1, Int>::arange(rows.start as i64..rows.end as i64, &device);
            let own = columns.clone().equal(numbers.unsqueeze_dim::<2>(1));
            let tile = Tile {
                logits: temperature.logits(cosines.clone()),
                own: own.float().cast(DType::F32),
                pairs,
                teacher: teacher.map(|(features, temperature)| {
                    let rows = features[side].clone().slice_dim(0, rows.clone());
                    temperature.logits(rows.matmul(features[other].clone().transpose()))
                }),
            };
            let mut gradient: Option<Tensor<2>> = None;
            for ((loss, weight), sum) in losses.iter().zip(&mut sums.losses) {
                if counts(*loss) {
                    let (value, slope) = loss.rows(&tile);
                    *sum = sum.clone() + value.mul_scalar(*weight);
                    let slope = slope.mul_scalar(*weight);
                    gradient = Some(match gradient {
                        Some(sum) => sum + slope,
                        None => slope,
                    });
                }
            }
            let Some(gradient) = gradient else { continue };
            sums.bias = sums.bias + gradient.clone().sum();
            sums.scale = sums.scale + (gradient.clone() * cosines).sum();
            let gradient = gradient * temperature.scale.clone().unsqueeze();
            add_rows(&mut sums.features[side], rows, gradient.clone().matmul(b));
            sums.features[other] = sums.features[other].clone() + gradient.transpose().matmul(a);
        }
    }
    sums
}

/// The same for CLIP's loss alone, where the processor has its own way.
fn in_cache(
    losses: &[(&dyn PairLoss, f64)],
    features: &Features,
    own: &Range<usize>,
    temperature: &Temperature,
    most: usize,
) -> Option<Share> {
    let [image, text] = features;
    if losses.is_empty() || losses.iter().any(|(loss, _)| !loss.is_clips()) || !is_on(image) {
        return None;
    }
    let number = |x: &Tensor<1>| x.clone().try_into_vec_as::<f32>().ok()?.first().copied();
    let scale = number(&temperature.scale)?;
    let bias = temperature.bias.as_ref().map_or(Some(0.0), number)?;
    let side = |rows: &Tensor<2>, columns: &Tensor<2>, both: bool| {
        contrast([rows, columns], own.clone(), both, [scale, bias], most)
    };
    let [pairs, _] = image.dims();
    let found = match own.len() == pairs {
        true => vec![side(image, text, true)?],
        false => {
            let mut turned = side(text, image, false)?;
            turned.features.reverse();
            vec![side(image, text, false)?, turned]
        }
    };
    let device = image.device();
    let one = |x: f64| Tensor::<1>::from_floats([x as f32], &device);
    let total = |of: fn(&Contrast) -> f64| found.iter().map(of).sum::<f64>();
    let weight: f64 = losses.iter().map(|(_, weight)| weight).sum();
    let loss = total(|side| side.loss);
    let (of_scale, of_bias) = (total(|side| side.scale), total(|side| side.bias));
    let features = found.into_iter().map(|side| side.features);
    let features = features.reduce(|[a, b], [c, d]| [a + c, b + d])?;
    Some(Share {
        losses: losses
            .iter()
            .map(|(_, weight)| one(loss * weight))
            .collect(),
        features: features.map(|x| match weight {
            1.0 => x,
            weight => x.mul_scalar(weight),
        }),
        scale: one(of_scale * weight),
        bias: one(of_bias * weight),
    })
}

fn add_rows(sum: &mut Tensor<2>, rows: Range<usize>, values: Tensor<2>) {
    let [_, width] = sum.dims();
    let old = sum.clone().slice_dim(0, rows.clone());
    *sum = sum.clone().slice_assign([rows, 0..width], old + values);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::{Device, Distribution, TensorData, activation};
    use openclip_model::ClipOutput;
    use openclip_model::clip::l2_normalize;

    use super::super::{ClipLoss, DistillLoss, SigLipLoss, clip_loss, siglip_loss};
    use super::*;

    fn features(pairs: usize, seed: u64) -> Features {
        let device = Device::flex();
        device.seed(seed);
        [0, 1].map(|_| l2_normalize(Tensor::random([pairs, 6], Distribution::Default, &device)))
    }

    fn temperature(scale: f32, bias: Option<f32>) -> Temperature {
        let one = |x: f32| Tensor::<1>::from_data(TensorData::from([x]), &Device::flex());
        Temperature {
            scale: one(scale),
            bias: bias.map(one),
        }
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_into_vec_as().unwrap()
    }

    fn close<const D: usize>(found: Tensor<D>, wanted: Tensor<D>, what: &str) {
        for (found, wanted) in values(found).into_iter().zip(values(wanted)) {
            let apart = (found - wanted).abs();
            assert!(
                apart <= 1e-6 + 1e-5 * wanted.abs(),
                "{what}: {found}, {wanted}"
            );
        }
    }

    /// `DistillClipLoss` of all logits at once.
    fn distilled(output: ClipOutput, teacher: &Tensor<2>) -> Tensor<1> {
        let side = |student: Tensor<2>, teacher: Tensor<2>| {
            let wanted = activation::softmax(teacher, 1);
            (wanted * activation::log_softmax(student, 1))
                .sum_dim(1)
                .mean()
        };
        let (logits, teacher) = (output.logits(), Tensor::from_inner(teacher.clone()));
        (side(logits.clone(), teacher.clone()) + side(logits.transpose(), teacher.transpose()))
            .mul_scalar(-0.5)
    }

    /// Every loss in tiles of every height, shared by one to three ranks, against the derivative of all logits at once.
    #[test]
    fn tiles_and_ranks_add_up_to_the_whole() {
        let teacher = (features(7, 5), temperature(20.0, None));
        let [image, text] = teacher.0.clone();
        let teacher_logits = teacher.1.logits(image.matmul(text.transpose()));
        let cases: [(&str, &dyn PairLoss, Option<f32>); 5] = [
            ("clip", &ClipLoss, None),
            ("clip with bias", &ClipLoss, Some(-3.0)),
            ("siglip", &SigLipLoss, Some(-2.0)),
            ("siglip without bias", &SigLipLoss, None),
            ("distill", &DistillLoss, None),
        ];
        for (name, loss, bias) in cases {
            let (plain, temperature) = (features(7, 3), temperature(9.0, bias));
            let leaf = |x: &Tensor<2>| Tensor::from_inner(x.clone()).require_grad();
            let [image, text] = plain.each_ref().map(leaf);
            let scale = Tensor::from_inner(temperature.scale.clone()).require_grad();
            let bias = temperature
                .bias
                .clone()
                .map(|b| Tensor::from_inner(b).require_grad());
            let output = ClipOutput {
                image_features: image.clone(),
                text_features: text.clone(),
                logit_scale: scale.clone(),
                logit_bias: bias.clone(),
            };
            let whole = match name {
                "distill" => distilled(output, &teacher_logits),
                name if name.starts_with("siglip") => siglip_loss(output),
                _ => clip_loss(output),
            };
            let gradients = whole.backward();
            for (cuts, most) in [
                (&[0, 7][..], 1 << 20),
                (&[0, 7], 14),
                (&[0, 3, 7], 21),
                (&[0, 2, 2, 7], 1),
            ] {
                let shares = cuts.windows(2).map(|cut| {
                    let teacher = (&teacher.0, &teacher.1);
                    share(
                        &[(loss, 0.5), (loss, 0.25)],
                        &plain,
                        cut[0]..cut[1],
                        &temperature,
                        Some(teacher),
                        most,
                    )
                });
                let sum = shares
                    .reduce(|a, b| Share {
                        losses: a
                            .losses
                            .into_iter()
                            .zip(b.losses)
                            .map(|(a, b)| a + b)
                            .collect(),
                        features: [
                            a.features[0].clone() + b.features[0].clone(),
                            a.features[1].clone() + b.features[1].clone(),
                        ],
                        scale: a.scale + b.scale,
                        bias: a.bias + b.bias,
                    })
                    .unwrap();
                let part = |x: Tensor<2>| x.mul_scalar(0.75);
                close(
                    sum.losses[0].clone(),
                    whole.clone().inner().mul_scalar(0.5),
                    name,
                );
                close(
                    sum.losses[1].clone(),
                    whole.clone().inner().mul_scalar(0.25),
                    name,
                );
                let [of_image, of_text] = sum.features;
                close(of_image, part(image.grad(&gradients).unwrap()), name);
                close(of_text, part(text.grad(&gradients).unwrap()), name);
                close(
                    sum.scale,
                    scale.grad(&gradients).unwrap().mul_scalar(0.75),
                    name,
                );
                if let Some(bias) = &bias {
                    close(
                        sum.bias,
                        bias.grad(&gradients).unwrap().mul_scalar(0.75),
                        name,
                    );
                }
            }
        }
    }

    /// CLIP's loss by the way of every other.
    #[derive(Debug)]
    struct Plain;

    impl PairLoss for Plain {
        fn name(&self) -> &'static str {
            "plain"
        }

        fn is_two_sided(&self) -> bool {
            true
        }

        fn rows(&self, tile: &Tile) -> (Tensor<1>, Tensor<2>) {
            ClipLoss.rows(tile)
        }
    }

    #[test]
    fn the_processors_way_is_that_of_tensors() {
        let device = Device::flex();
        device.seed(7);
        for (pairs, width, own, most) in [
            (1, 3, 0..1, 9),
            (700, 33, 0..700, 1 << 20),
            (701, 32, 0..701, 90_000),
            (300, 40, 100..217, 1 << 20),
        ] {
            let random = || Tensor::random([pairs, width], Distribution::Default, &device);
            let features = [0, 1].map(|_| l2_normalize(random() - 0.5));
            for (scale, bias) in [(14.0, None), (100.0, Some(-7.0))] {
                let temperature = temperature(scale, bias);
                let run = |loss: &dyn PairLoss| {
                    share(
                        &[(loss, 0.7)],
                        &features,
                        own.clone(),
                        &temperature,
                        None,
                        most,
                    )
                };
                let (found, wanted) = (run(&ClipLoss), run(&Plain));
                let largest = |x: &Tensor<2>| {
                    let values = values(x.clone());
                    values.iter().fold(0.0, |max: f32, x| max.max(x.abs()))
                };
                for (found, wanted) in found.features.into_iter().zip(wanted.features) {
                    let apart = largest(&(found - wanted.clone()));
                    let most = 2e-5 * largest(&wanted) + 1e-9;
                    assert!(
                        apart <= most,
                        "{pairs} at {scale}: {apart:e} beyond {most:e}"
                    );
                }
                close(found.losses[0].clone(), wanted.losses[0].clone(), "loss");
                close(found.scale, wanted.scale, "scale");
            }
            let lost = features.map(|x| x.mul_scalar(f32::NAN));
            let lost = share(
                &[(&ClipLoss, 1.0)],
                &lost,
                own,
                &temperature(1.0, None),
                None,
                most,
            );
            assert!(values(lost.losses[0].clone())[0].is_nan());
            assert!(values(lost.features[0].clone())[0].is_nan() || pairs == 300);
        }
    }

    /// Counts the logits that exist at once.
    #[derive(Debug)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl PairLoss for Count {
        fn name(&self) -> &'static str {
            "count"
        }

        fn is_two_sided(&self) -> bool {
            true
        }

        fn rows(&self, tile: &Tile) -> (Tensor<1>, Tensor<2>) {
            let logits = tile.logits.shape().num_elements();
            self.0
                .fetch_max(logits, std::sync::atomic::Ordering::Relaxed);
            ClipLoss.rows(tile)
        }
    }

    #[test]
    fn no_more_logits_than_allowed_exist_at_once() {
        let features = features(100, 1);
        for (most, expected) in [(250, 200), (100, 100), (99, 100), (1 << 20, 6000)] {
            let count = Count(0.into());
            let temperature = temperature(1.0, None);
            share(
                &[(&count, 1.0)],
                &features,
                20..80,
                &temperature,
                None,
                most,
            );
            assert_eq!(count.0.into_inner(), expected);
        }
    }
}
