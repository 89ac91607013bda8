//! Batches through the towers, in evaluation mode.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor};
use openclip_data::image::{EvalTransform, Picture};
use openclip_data::loader::Batch;
use openclip_data::tokenizer::{Tokenizer, within};
use openclip_model::coca::CaptionOutput;
use openclip_model::config::PreprocessConfig;
use openclip_model::factory::Loaded;
use openclip_model::{Clip, pixels};

use crate::error::EvalError;
use crate::host::host;
use crate::scores::Temperature;

/// Captions that go through the text tower together.
const TEXT_BATCH: usize = 256;

/// A model with what it takes to feed it.
#[derive(Debug, Clone)]
pub struct Encoder {
    model: Clip,
    /// Normalisation of the pictures.
    pub preprocess: PreprocessConfig,
    /// Height and width of the pictures.
    pub image_size: [usize; 2],
    /// Where the model is.
    pub device: Device,
    /// Dtype of activations.
    pub dtype: FloatDType,
    eight_bits: bool,
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
            eight_bits: false,
        }
    }

    /// With the matrix products of the towers' blocks in 8 bits ([`Clip::in_8_bits`]).
    #[must_use]
    pub fn in_8_bits(self) -> Self {
        Self {
            model: self.model.in_8_bits(),
            eight_bits: true,
            ..self
        }
    }

    /// Whether products are in 8 bits.
    pub fn is_in_8_bits(&self) -> bool {
        self.eight_bits
    }

    /// The same in f32, of a model in 8 bits.
    pub fn exact(&self) -> Option<Self> {
        self.eight_bits.then(|| Self {
            model: self.model.clone().folded(),
            eight_bits: false,
            ..self.clone()
        })
    }

    /// Goes on with another state of the model, which may be on an autodiff device.
    pub fn set_model(&mut self, model: &Clip) {
        self.model = match self.eight_bits {
            true => model.valid().in_8_bits(),
            false => model.valid().folded(),
        };
    }

    /// The network, without autodiff and with its branches joined ([`Clip::folded`]).
    pub fn model(&self) -> &Clip {
        &self.model
    }

    /// A decoded picture as the tower wants it: planes `[3, height, width]`.
    ///
    /// # Errors
    /// When the picture cannot be resized as the preprocessing asks.
    pub fn planes(&self, picture: &Picture) -> Result<Vec<u8>, EvalError> {
        let [height, width] = self.image_size;
        let mut planes = vec![0; 3 * height * width];
        EvalTransform::new(height, width, &self.preprocess)?.apply(picture, &mut planes)?;
        Ok(planes)
    }

    /// Features of one decoded picture, `[1, embed_dim]`, of unit length.
    ///
    /// # Errors
    /// As [`Self::planes`].
    pub fn picture(&self, picture: &Picture) -> Result<Tensor<2>, EvalError> {
        Ok(self.images(self.planes(picture)?, 1))
    }

    /// Features of a batch's pictures, `[batch, embed_dim]`, of unit length.
    pub fn images(&self, planes: Vec<u8>, count: usize) -> Tensor<2> {
        self.model.encode_image(self.pixels(planes, count), true)
    }

    /// Features of token rows, `[captions, embed_dim]`, of unit length.
    pub fn tokens(&self, ids: Vec<i32>, count: usize) -> Tensor<2> {
        let tokens = self.ids(ids, count);
        self.model.encode_text_in(tokens, true, self.dtype.into())
    }

    /// The model's own scale and bias.
    ///
    /// # Errors
    /// When the device does not hand them back.
    pub fn temperature(&self) -> Result<Temperature, EvalError> {
        let number = |tensor: Tensor<1>| {
            let values = host(tensor.cast(DType::F32))?;
            Ok::<_, EvalError>(values.first().copied().unwrap_or(f32::NAN))
        };
        let bias = self.model.logit_bias.as_ref();
        Ok(Temperature {
            scale: number(self.model.logit_scale.val())?.exp(),
            bias: bias.map(|bias| number(bias.val())).transpose()?,
        })
    }

    /// Normalised pixels `[count, 3, height, width]` of planes that lie behind one another.
    pub fn pixels(&self, planes: Vec<u8>, count: usize) -> Tensor<4> {
        let [height, width] = self.image_size;
        let shape = [count, 3, height, width];
        let planes = pixels::planes(planes, shape, &self.device);
        pixels::normalise(planes, &self.preprocess, self.dtype)
    }

    fn ids(&self, ids: Vec<i32>, count: usize) -> Tensor<2, Int> {
        let length = ids.len() / count.max(1);
        pixels::tokens(ids, [count, length], &self.device)
    }

    /// Features of token rows, one for each caption, in slices of a few hundred.
    ///
    /// # Errors
    /// There is no caption.
    pub fn rows(&self, ids: &[Vec<i32>]) -> Result<Tensor<2>, EvalError> {
        let slices = ids.chunks(TEXT_BATCH);
        let slices: Vec<_> = slices
            .map(|slice| self.tokens(slice.concat(), slice.len()))
            .collect();
        match slices.is_empty() {
            true => Err(EvalError::NoSamples),
            false => Ok(Tensor::cat(slices, 0)),
        }
    }

    /// Features of captions, `[captions, embed_dim]`, of unit length.
    ///
    /// # Errors
    /// There is no caption, or the tokenizer has no ids for one.
    pub fn texts<S: AsRef<str>>(
        &self,
        tokenizer: &dyn Tokenizer,
        captions: &[S],
    ) -> Result<Tensor<2>, EvalError> {
        let ids = captions
            .iter()
            .map(|text| tokenizer.tokenize(text.as_ref()));
        self.rows(&ids.collect::<Result<Vec<_>, _>>()?)
    }

    /// Both towers on a batch of pairs.
    pub fn pairs(&self, batch: Batch) -> [Tensor<2>; 2] {
        [
            self.images(batch.images, batch.size),
            self.tokens(batch.tokens, batch.size),
        ]
    }

    /// Both towers and the caption decoder on a batch of pairs, of a model that writes captions.
    ///
    /// # Errors
    /// As [`Clip::forward_caption`].
    pub fn captioned(&self, batch: Batch) -> Result<CaptionOutput, EvalError> {
        let images = self.pixels(batch.images, batch.size);
        let tokens = self.ids(batch.tokens, batch.size);
        Ok(self.model.forward_caption(images, tokens, None)?)
    }
}

/// `tokenizer` for captions that `model` reads and writes: one that the model's decoder has no id for is an error.
///
/// OpenCLIP's published `coca_roberta` reads more ids than it writes.
pub fn written(model: &Clip, tokenizer: Arc<dyn Tokenizer>) -> Arc<dyn Tokenizer> {
    match &model.text_decoder {
        Some(decoder) => within(tokenizer, decoder.vocabulary()),
        None => tokenizer,
    }
}
