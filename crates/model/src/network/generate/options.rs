//! How captions are written.

use crate::files::ModelError;
use crate::files::config::ModelConfig;
use crate::text::hf::{self, HfFamily};

/// How captions are written. The defaults are OpenCLIP's.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens of a caption, the first and the last special token included.
    pub seq_len: usize,
    /// Fewest tokens before the end token.
    pub min_seq_len: usize,
    /// Logits of tokens that the caption already has are divided by this if positive and multiplied if negative; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Pads every caption to `seq_len`.
    pub fixed_output_length: bool,
    /// Tokens that every caption begins with; the start token when empty.
    pub prompt: Vec<i32>,
    /// The special tokens.
    pub special: SpecialTokens,
    /// How the next token is chosen.
    pub strategy: Strategy,
    /// Keeps the keys and values of earlier tokens instead of computing them in every step; the captions are the same. A Hugging
    /// Face text tower, whose tokens see later ones too, computes them in every step.
    pub cache: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            seq_len: 30,
            min_seq_len: 5,
            repetition_penalty: 1.0,
            fixed_output_length: false,
            prompt: Vec::new(),
            special: SpecialTokens::default(),
            strategy: Strategy::Beam(BeamSearch::default()),
            cache: true,
        }
    }
}

/// Ids with a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a caption.
    pub start: i32,
    /// Ends a caption.
    pub end: i32,
    /// Fills up a caption that has ended.
    pub pad: i32,
}

impl Default for SpecialTokens {
    /// Those of CLIP's tokenizer.
    fn default() -> Self {
        Self {
            start: 49406,
            end: 49407,
            pad: 0,
        }
    }
}

impl SpecialTokens {
    /// Those of the tokenizer that a model's text tower was made for.
    ///
    /// # Errors
    /// The configuration is of no model.
    pub fn of(config: &ModelConfig) -> Result<Self, ModelError> {
        let Some(arch) = hf::arch(config)? else {
            return Ok(Self::default());
        };
        let [start, end] = match arch.family {
            HfFamily::Roberta | HfFamily::M2m100 => [0, 2],
            HfFamily::Bert => [101, 102],
            HfFamily::T5 => [0, 1],
        };
        let pad = i32::try_from(arch.pad_id).unwrap_or_default();
        Ok(Self { start, end, pad })
    }
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Keeps the best few captions and extends each.
    Beam(BeamSearch),
    /// Draws one token from those that a filter leaves.
    Sample(Sampling),
}

/// Beam search in groups that do not know of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeamSearch {
    /// Captions that are kept for a picture.
    pub beams: usize,
    /// Groups that the beams are divided into, in equal parts.
    pub groups: usize,
    /// What a beam's score adds up.
    pub score: BeamScore,
}

impl Default for BeamSearch {
    fn default() -> Self {
        Self {
            beams: 6,
            groups: 3,
            score: BeamScore::Logits,
        }
    }
}

/// What a beam's score adds up, token by token; the sum is divided by the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeamScore {
    /// The logit itself, as OpenCLIP 2.29 does. Such a sum is no likelihood, as logits have no common zero.
    Logits,
    /// The logarithm of the probability.
    LogSoftmax,
}

/// Sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Which tokens may be drawn.
    pub filter: Filter,
    /// Logits that pass the filter are divided by this.
    pub temperature: f32,
    /// Makes the draw repeatable.
    pub seed: u64,
}

/// Which tokens may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Filter {
    /// The `k` of the largest logits, and those equal to the last of them.
    TopK(usize),
    /// The fewest that together have this probability; at least one.
    TopP(f32),
}

/// Most memory that the beams of a picture may take.
const MOST_BYTES: usize = 1 << 33;

impl GenerateOptions {
    /// Refuses options that make no caption for a model of this vocabulary and context, whose search keeps as many bytes for each
    /// caption.
    pub(super) fn check(
        &self,
        vocabulary: usize,
        longest: usize,
        bytes_per_caption: usize,
    ) -> Result<(), ModelError> {
        let refuse = |field, reason: String| Err(ModelError::invalid(field, reason));
        if self.seq_len > longest {
            return refuse(
                "seq_len",
                format!("{}, the model's context is {longest}", self.seq_len),
            );
        }
        if self.seq_len <= self.min_seq_len || self.seq_len <= self.prompt.len().max(1) {
            let reason = format!(
                "{}, expected more than min_seq_len {} and than the {} tokens of the prompt",
                self.seq_len,
                self.min_seq_len,
                self.prompt.len().max(1)
            );
            return refuse("seq_len", reason);
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            let reason = format!("{}, expected a positive number", self.repetition_penalty);
            return refuse("repetition_penalty", reason);
        }
        let SpecialTokens { start, end, pad } = self.special;
        let known = |id: i32| usize::try_from(id).is_ok_and(|id| id < vocabulary);
        if let Some(id) = self
            .prompt
            .iter()
            .chain([&start, &end, &pad])
            .find(|id| !known(**id))
        {
            return refuse(
                "token id",
                format!("{id} is outside the vocabulary of {vocabulary}"),
            );
        }
        match self.strategy {
            Strategy::Beam(BeamSearch { beams, groups, .. }) => {
                if groups == 0 || beams == 0 || !beams.is_multiple_of(groups) {
                    let reason = format!("{beams} beams cannot be divided into {groups} groups");
                    return refuse("beams", reason);
                }
                let bytes = beams.saturating_mul(bytes_per_caption);
                if bytes > MOST_BYTES {
                    let reason = format!(
                        "{beams}, at most {} fit into {} GiB for this model and seq_len",
                        MOST_BYTES / bytes_per_caption / groups * groups,
                        MOST_BYTES >> 30
                    );
                    return refuse("beams", reason);
                }
                Ok(())
            }
            Strategy::Sample(Sampling {
                filter,
                temperature,
                ..
            }) => {
                if !(temperature > 0.0 && temperature.is_finite()) {
                    let reason = format!("{temperature}, expected a positive number");
                    return refuse("temperature", reason);
                }
                match filter {
                    Filter::TopK(0) => refuse("top_k", "0, expected at least 1".into()),
                    Filter::TopP(p) if !(0.0..=1.0).contains(&p) => {
                        refuse("top_p", format!("{p}, expected a share from 0 to 1"))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Forbids an early end, then weakens the tokens of `caption`.
    pub(super) fn process(&self, caption: &[i32], logits: &mut [f32]) {
        if caption.len() < self.min_seq_len
            && let Some(end) = logits.get_mut(self.special.end as usize)
        {
            *end = f32::NEG_INFINITY;
        }
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut seen = caption.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = match *logit < 0.0 {
                    true => *logit * self.repetition_penalty,
                    false => *logit / self.repetition_penalty,
                };
            }
        }
    }
}
