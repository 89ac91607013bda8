//! Batches through the towers, in evaluation mode.

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use openclip_data::image::{EvalTransform, Picture};
use openclip_data::loader::Batch;
use openclip_data::tokenizer::Tokenizer;
use openclip_model::config::PreprocessConfig;
use openclip_model::factory::Loaded;
use openclip_model::{Clip, pixels};

use crate::error::EvalError;

/// Captions that go through the text tower together.
const TEXT_BATCH: usize = 256;

/// A model with what it takes to feed it.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// The network, without autodiff and with its branches joined ([`Clip::folded`]).
    pub model: Clip,
    /// Normalisation of the pictures.
    pub preprocess: PreprocessConfig,
    /// Height and width of the pictures.
    pub image_size: [usize; 2],
    /// Where the model is.
    pub device: Device,
    /// Dtype of activations.
    pub dtype: FloatDType,
}

impl Encoder {
    /// An encoder for a model and what belongs to its weights, computing in `dtype`.
    pub fn of(loaded: &Loaded, device: &Device, dtype: FloatDType) -> Self {
        let (height, width) = loaded.config.vision_cfg.image_size.dims();
        let preprocess = loaded.preprocess.clone();
        Self::new(&loaded.model, preprocess, [height, width], device, dtype)
    }

    /// An encoder for `model`, which may be on an autodiff device.
    pub fn new(
        model: &Clip,
        preprocess: PreprocessConfig,
        image_size: [usize; 2],
        device: &Device,
        dtype: FloatDType,
    ) -> Self {
        Self {
            model: model.valid().folded(),
            preprocess,
            image_size,
            device: device.clone().inner(),
            dtype,
        }
    }

    /// Features of one decoded picture, `[1, embed_dim]`, of unit length.
    ///
    /// # Errors
    /// When the picture cannot be resized as the preprocessing asks.
    pub fn picture(&self, picture: &Picture) -> Result<Tensor<2>, EvalError> {
        let [height, width] = self.image_size;
        let mut planes = vec![0; 3 * height * width];
        EvalTransform::new(height, width, &self.preprocess)?.apply(picture, &mut planes)?;
        Ok(self.images(planes, 1))
    }

    /// Features of a batch's pictures, `[batch, embed_dim]`, of unit length.
    pub fn images(&self, planes: Vec<u8>, count: usize) -> Tensor<2> {
        let [height, width] = self.image_size;
        let shape = [count, 3, height, width];
        let images = pixels::normalise(planes, shape, &self.preprocess, &self.device, self.dtype);
        self.model.encode_image(images, true)
    }

    /// Features of token rows, `[captions, embed_dim]`, of unit length.
    pub fn tokens(&self, ids: Vec<i32>, count: usize) -> Tensor<2> {
        let length = ids.len() / count.max(1);
        let tokens = pixels::tokens(ids, [count, length], &self.device);
        self.model.encode_text_in(tokens, true, self.dtype.into())
    }

    /// Features of captions, `[captions, embed_dim]`, of unit length, in slices of a few hundred.
    pub fn texts<S: AsRef<str>>(&self, tokenizer: &dyn Tokenizer, captions: &[S]) -> Tensor<2> {
        let slices = captions.chunks(TEXT_BATCH).map(|slice| {
            let ids = slice
                .iter()
                .flat_map(|text| tokenizer.tokenize(text.as_ref()));
            self.tokens(ids.collect(), slice.len())
        });
        Tensor::cat(slices.collect(), 0)
    }

    /// Both towers on a batch of pairs.
    pub fn pairs(&self, batch: Batch) -> [Tensor<2>; 2] {
        [
            self.images(batch.images, batch.size),
            self.tokens(batch.tokens, batch.size),
        ]
    }
}
