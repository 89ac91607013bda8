//! The samples of an optimizer step, on the device that trains.

use burn::tensor::{Device, Int, Tensor, TensorData};
use openclip_data::loader::Batch;
use openclip_model::pixels;

/// One optimizer step's samples.
#[derive(Debug, Clone)]
pub struct Step {
    /// Micro-batches of equal size.
    pub batches: Vec<Uploaded>,
    /// Number of the step within the run, from zero.
    pub index: u64,
}

/// A batch whose numbers are on the device.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// Pixels `[size, 3, height, width]`, not normalised.
    pub planes: Tensor<4, Int>,
    /// Token ids `[size, context_length]`; where nothing reads captions, classes `[size, 1]`.
    pub targets: Tensor<2, Int>,
    /// What else is known of it.
    pub batch: Batch,
}

impl Uploaded {
    /// Sends the numbers of a batch of pictures of `image_size` to `device`, which takes them in when it has done what it was given before.
    pub fn new(mut batch: Batch, [height, width]: [usize; 2], device: &Device) -> Self {
        let size = batch.size;
        let planes = std::mem::take(&mut batch.images);
        let tokens = std::mem::take(&mut batch.tokens);
        let targets = match tokens.is_empty() {
            false => {
                let shape = [size, tokens.len() / size.max(1)];
                pixels::tokens(tokens, shape, device)
            }
            true => {
                let labels: Vec<i64> = batch.labels.iter().map(|label| *label as i64).collect();
                Tensor::from_data(TensorData::new(labels, [size, 1]), device)
            }
        };
        Self {
            planes: pixels::planes(planes, [size, 3, height, width], device),
            targets,
            batch,
        }
    }

    /// The same without a graph.
    pub fn inner(self) -> Self {
        Self {
            planes: self.planes.inner(),
            targets: self.targets.inner(),
            ..self
        }
    }
}
