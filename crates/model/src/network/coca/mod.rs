//! CoCa: a contrastive model with a decoder that writes captions (`coca_model.py`; Yu et al. 2022, arXiv 2205.01917).
//!
//! It is a [`Clip`](crate::Clip) whose `text_decoder` is there. The picture's tokens and the caption's tokens, as the two towers leave them,
//! go through the decoder, whose output at a position is about the next token.
//!
//! * [`MultimodalTransformer`] – the decoder
//! * [`CaptionOutput`] – what a training pass gives
//! * `vocabulary` – how many token ids the decoder knows

mod caption;
mod decoder;
mod vocabulary;

pub use caption::CaptionOutput;
pub(crate) use caption::Captioner;
pub use decoder::{DecoderCache, MultimodalTransformer};
pub(crate) use vocabulary::{stored_vocabulary, whole_vocabulary};
