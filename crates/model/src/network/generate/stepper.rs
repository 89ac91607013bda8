//! Logits of the next token for a set of captions that grow together.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::files::ModelError;
use crate::layers::attention::KeyValues;
use crate::network::coca::Captioner;
use crate::network::coca::DecoderCache;
use crate::text::TextTower;
use crate::text::native::TextTransformer;

/// A model that reads the pictures' captions, a picture's captions side by side and as many for each.
pub(super) struct Stepper<'a> {
    parts: Captioner<'a>,
    image: Tensor<3>,
    cache: Option<Cache<'a>>,
    device: Device,
    dtype: DType,
}

struct Cache<'a> {
    /// A tower whose tokens see no later ones.
    tower: &'a TextTransformer,
    /// Tokens that the cache holds.
    seen: usize,
    text: Vec<KeyValues>,
    decoder: DecoderCache,
}

/// Bytes that a caption of `length` tokens takes: logits on the device and twice on the host, keys and values of every layer while
/// the next token is put behind them.
pub(super) fn bytes(parts: &Captioner<'_>, length: usize) -> usize {
    let layers = match parts.text {
        TextTower::Native(tower) => tower.transformer.resblocks.len(),
        TextTower::Hf(_) => 0,
    };
    let layers = layers + parts.decoder.resblocks.len();
    let numbers = 3 * parts.decoder.vocabulary() + 2 * 2 * layers * length * parts.decoder.width();
    numbers * size_of::<f32>()
}

impl<'a> Stepper<'a> {
    /// Encodes the pictures `[batch, 3, height, width]`.
    pub(super) fn new(parts: Captioner<'a>, image: Tensor<4>, cache: bool) -> Self {
        let (device, dtype) = (image.device(), image.dtype());
        let (_, image) = parts.visual.forward_with_tokens(image, None);
        let cache = match parts.text {
            TextTower::Native(tower) if cache => Some(Cache {
                tower,
                seen: 0,
                text: vec![KeyValues::default(); tower.transformer.resblocks.len()],
                decoder: parts.decoder.cache(image.clone()),
            }),
            _ => None,
        };
        Self {
            parts,
            image,
            cache,
            device,
            dtype,
        }
    }

    /// Logits of the token that follows each caption, one row for each; all captions have one length, and have grown by one token
    /// since the last call.
    pub(super) fn logits(&mut self, captions: &[Vec<i32>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let length = captions.first().map_or(0, Vec::len);
        let from = self.cache.as_ref().map_or(0, |cache| cache.seen);
        let ids: Vec<i64> = captions
            .iter()
            .flat_map(|caption| caption[from..].iter().map(|&id| i64::from(id)))
            .collect();
        let ids = TensorData::new(ids, [captions.len(), length - from]);
        let ids = Tensor::<2, Int>::from_data(ids, &self.device);
        let Captioner { text, decoder, .. } = self.parts;
        let logits = match &mut self.cache {
            Some(cache) => {
                let tokens = cache.tower.step(ids, from, self.dtype, &mut cache.text);
                cache.seen = length;
                decoder.step(tokens, &mut cache.decoder)
            }
            None => {
                let tokens = text.decoder_input(ids, self.dtype);
                let logits = decoder.forward(self.image.clone(), tokens);
                let [rows, length, vocabulary] = logits.dims();
                logits
                    .slice_dim(1, length - 1..length)
                    .reshape([rows, vocabulary])
            }
        };
        let [_, vocabulary] = logits.dims();
        let values = logits.cast(DType::F32).try_into_vec_as::<f32>();
        let values = values.map_err(|error| ModelError::Device {
            device: format!("{:?}", self.device),
            reason: format!("logits cannot be read: {error:?}"),
        })?;
        Ok(values.chunks(vocabulary).map(<[f32]>::to_vec).collect())
    }

    /// Says that caption `i` now continues what was caption `rows[i]`, of the same picture.
    pub(super) fn select(&mut self, rows: &[usize]) {
        let Some(cache) = &mut self.cache else { return };
        if rows.iter().enumerate().all(|(i, &row)| i == row) {
            return;
        }
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let count = rows.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &self.device);
        cache.text.iter_mut().for_each(|layer| layer.select(&rows));
        cache.decoder.select(&rows);
    }
}
