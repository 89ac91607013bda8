//! Captions to token ids.
//!
//! * [`ClipTokenizer`] – CLIP's byte-pair encoding, in `clip`; its tables in `vocab`, its word pattern in `words`
//! * [`HfTokenizer`] – any `tokenizer.json`, in `hf`, and mT5's `spiece.model`, in `sentencepiece`
//! * [`Clean`] – what is done to a caption before, in `clean`; `ftfy` repairs encodings, `entities` resolves `&amp;`
//! * [`for_model`] – the tokenizer of a model, in `select`; [`within`] keeps it to the ids that a model has
//! * [`files`] – what a repository of the hub has of a tokenizer, in `published`

mod clean;
mod clip;
mod entities;
mod ftfy;
mod hf;
mod published;
mod select;
mod sentencepiece;
mod vocab;
mod within;
mod words;

pub use clean::Clean;
pub use clip::ClipTokenizer;
pub use hf::{HfOptions, HfTokenizer};
pub use published::files;
pub use select::{for_model, for_model_in};
pub use within::within;

use crate::error::DataError;

/// Whether a caption has more tokens than `tokenizer` has room for; `longer` is the same with room for one more.
///
/// # Errors
/// Those of [`Tokenizer::tokenize`].
pub fn is_cut_off(
    tokenizer: &dyn Tokenizer,
    longer: &dyn Tokenizer,
    text: &str,
) -> Result<bool, DataError> {
    let (ids, more) = (tokenizer.tokenize(text)?, longer.tokenize(text)?);
    // What fits is filled up on either side, or before the class token, which a decoder leaves out.
    Ok(!more.starts_with(&ids)
        && !more.ends_with(&ids)
        && tokenizer.decode(&ids) != longer.decode(&more))
}

/// Turns captions into token ids of one length, and back.
pub trait Tokenizer: Send + Sync {
    /// Number of ids of a caption, special tokens and padding included.
    fn context_length(&self) -> usize;

    /// The ids of a caption: cut off or padded to [`Self::context_length`].
    ///
    /// # Errors
    /// [`DataError::Caption`] where the tokenizer has no ids for it.
    fn tokenize(&self, text: &str) -> Result<Vec<i32>, DataError>;

    /// The text that ids stand for; empty where a tokenizer knows no way back.
    fn decode(&self, _ids: &[i32]) -> String {
        String::new()
    }

    /// Tokens that stand for no text, with their ids.
    fn special_tokens(&self) -> Vec<(String, i32)> {
        Vec::new()
    }

    /// Number of token ids, all of which are below it; 0 where it is unknown.
    fn vocab_size(&self) -> usize {
        0
    }

    /// The token of an id, where it has a spelling.
    fn token(&self, _id: usize) -> Option<String> {
        None
    }
}
