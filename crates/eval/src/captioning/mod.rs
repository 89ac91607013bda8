//! How well captions that a model wrote agree with those that people wrote: BLEU, ROUGE-L and CIDEr, as `pycocoevalcap` computes
//! them. METEOR and SPICE, which need Java and lists of synonyms, are left out.
//!
//! * [`ptb`] – words of a caption, as the Penn Treebank has them
//! * `pair` – a caption with those it is compared with
//! * `grams` – runs of words
//! * `bleu`, `rouge`, `cider` – the measures

mod bleu;
mod cider;
mod grams;
mod pair;
pub mod ptb;
mod rouge;

pub use bleu::Bleu;
pub use cider::cider;
pub use pair::Pair;
pub use rouge::rouge;
