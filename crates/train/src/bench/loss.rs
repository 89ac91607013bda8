//! A contrastive loss of many pairs.

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use openclip_eval::run::host;
use openclip_model::clip::l2_normalize;

use super::options::timed;
use crate::TrainError;
use crate::loss::ClipLoss;
use crate::loss::tiles::{self, Temperature};

/// Seconds of CLIP's loss of `pairs` pairs of `width` features and the gradient of every feature.
///
/// # Errors
/// When the device fails.
pub fn loss_seconds(pairs: usize, width: usize, device: &Device) -> Result<f64, TrainError> {
    let random = |_| {
        let values = Tensor::random([pairs, width], Distribution::Default, device);
        l2_normalize(values)
    };
    let features = [0, 1].map(random);
    let temperature = Temperature {
        scale: Tensor::from_data(TensorData::from([14.0_f32]), device),
        bias: None,
    };
    let losses: [(&dyn crate::loss::PairLoss, f64); 1] = [(&ClipLoss, 1.0)];
    timed(|| {
        let share = tiles::share(
            &losses,
            &features,
            0..pairs,
            &temperature,
            None,
            tiles::TILE,
        );
        let [image, text] = share.features;
        host(image.slice([0..1, 0..1]))?;
        host(text.slice([0..1, 0..1]))?;
        Ok(())
    })
}
