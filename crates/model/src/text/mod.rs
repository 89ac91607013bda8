//! Text towers: token ids → one vector.
//!
//! A family is one folder, which answers the questions of [`TextFamily`], and one line in the table below.
//!
//! * [`native`] – OpenCLIP's own text transformer
//! * `cut` – captions without padding
//! * [`hf`] – Hugging Face's encoders: RoBERTa, mT5, NLLB

mod cut;
pub mod hf;
pub mod native;

pub use hf::HfTextTower;
pub use native::TextTransformer;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::family::TextFamily;
use crate::family::keys::Marks;
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TextConfig};

/// A line of the table.
struct Row {
    configures: fn(&TextConfig) -> bool,
    new: fn(&ModelConfig, &Device) -> Result<TextTower, ModelError>,
    marks: fn() -> &'static [Marks],
}

/// Makes the enum of the towers and the table of their families.
macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident($tower:ty),)*) => {
        /// A text tower of any family.
        #[allow(clippy::large_enum_variant)] // There is one tower per model.
        #[derive(Module, Debug)]
        pub enum TextTower {
            $($(#[$doc])* $variant($tower),)*
        }

        const FAMILIES: &[Row] = &[$(Row {
            configures: <$tower as TextFamily>::configures,
            new: |config, device| Ok(TextTower::$variant(TextFamily::new(config, device)?)),
            marks: <$tower as TextFamily>::marks,
        },)*];

        impl TextTower {
            /// The tower's answers as its family gives them.
            pub fn family(&self) -> &dyn TextFamily {
                match self {
                    $(Self::$variant(tower) => tower,)*
                }
            }

            pub(crate) fn family_mut(&mut self) -> &mut dyn TextFamily {
                match self {
                    $(Self::$variant(tower) => tower,)*
                }
            }
        }
    };
}

// Weights are of the first family whose marks they have.
families! {
    /// Native transformer.
    Native(native::TextTransformer),
    /// Hugging Face's encoder.
    Hf(hf::HfTextTower),
}

/// Number of token ids that the text tower of a configuration has vectors for.
///
/// # Errors
/// The configuration is of no model.
pub fn vocabulary(config: &ModelConfig) -> Result<usize, ModelError> {
    let arch = hf::arch(config)?;
    Ok(arch.map_or(config.text_cfg.vocab_size, |arch| arch.vocab_size))
}

impl TextTower {
    /// Builds the tower that `config` describes.
    ///
    /// # Errors
    /// No family has such a tower, or not with these sizes and switches.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let mut families = FAMILIES.iter();
        match families.find(|family| (family.configures)(&config.text_cfg)) {
            Some(family) => (family.new)(config, device),
            None => Err(ModelError::invalid("text_cfg", "of no family")),
        }
    }

    /// Token ids `[batch, length]` → features `[batch, embed_dim]`, computed in `dtype`.
    ///
    /// `training` seeds what is random in training, dropout; without it the tower is in evaluation mode.
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        training: Option<u64>,
    ) -> Tensor<2> {
        self.family().forward(tokens, dtype, training)
    }

    /// Like [`Self::forward`], with the tokens `[batch, length, width]` that a caption decoder reads.
    pub fn forward_with_tokens(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        training: Option<u64>,
    ) -> (Tensor<2>, Tensor<3>) {
        self.family().forward_with_tokens(tokens, dtype, training)
    }

    /// Tokens for a caption decoder of ids `[batch, length]`, `[batch, length, width]`.
    pub fn decoder_input(&self, tokens: Tensor<2, Int>, dtype: DType) -> Tensor<3> {
        self.family().decoder_input(tokens, dtype)
    }

    /// Id of padding.
    pub fn pad_id(&self) -> usize {
        self.family().pad_id()
    }

    /// Most tokens of a caption, a class token not counted, where there is a limit.
    pub fn longest(&self) -> Option<usize> {
        self.family().longest()
    }
}

/// By which keys the families are known, in the order in which they are looked for.
pub(crate) fn marks() -> impl Iterator<Item = &'static Marks> {
    FAMILIES.iter().flat_map(|family| (family.marks)())
}
