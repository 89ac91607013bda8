//! How well captions that a model wrote agree with those that people wrote: BLEU, ROUGE-L and CIDEr, as `pycocoevalcap` computes
//! them. METEOR and SPICE, which need Java and lists of synonyms, are left out.
//!
//! * [`ptb`] – words of a caption, as the Penn Treebank has them
//! * `grams` – runs of words
//! * `bleu`, `rouge`, `cider` – the measures

mod bleu;
mod cider;
mod grams;
pub mod ptb;
mod rouge;

pub use bleu::Bleu;
pub use cider::cider;
pub use rouge::rouge;

/// A caption that was written, and those that are right, as words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// What was written.
    pub written: Vec<String>,
    /// What is right, at least one.
    pub right: Vec<Vec<String>>,
}

impl Pair {
    /// Takes the captions apart.
    pub fn new(written: &str, right: &[String]) -> Self {
        Self {
            written: ptb::words(written),
            right: right.iter().map(|caption| ptb::words(caption)).collect(),
        }
    }
}
