//! SentencePiece's own model file, `spiece.model`, which mT5 is published with in place of a `tokenizer.json`.
//!
//! The file is a Protocol Buffers message: pieces with scores, the id of the unknown piece and a table of normalisation. It
//! becomes the same tokenizer that transformers makes of it for T5: normalise, split at white space, put `▁` before each word,
//! take the likeliest pieces, and add `</s>`.

use std::path::Path;

use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// A piece of the vocabulary.
struct Piece {
    text: String,
    score: f32,
    kind: u64,
}

/// `ModelProto.SentencePiece.Type`.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// `TrainerSpec.ModelType`.
const UNIGRAM: u64 = 1;

/// More than any vocabulary; a file that holds more is damaged.
const MOST_PIECES: usize = 1 << 24;

/// What ends a caption, and what fills it up.
const END: &str = "</s>";
const PAD: &str = "<pad>";

/// Reads the file, which must hold a unigram model with a piece `</s>`.
pub(super) fn read(path: &Path) -> Result<Tokenizer, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let model = Model::parse(&bytes).ok_or("not a SentencePiece model")?;
    build(model).map_err(|error| error.to_string())
}

/// The parts of `ModelProto` that matter here.
struct Model<'a> {
    pieces: Vec<Piece>,
    kind: u64,
    charsmap: &'a [u8],
}

impl<'a> Model<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            kind: UNIGRAM,
            charsmap: &[],
        };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) if model.pieces.len() < MOST_PIECES => {
                    model.pieces.push(Piece::parse(piece)?);
                }
                (2, Value::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        if let (3, Value::Number(kind)) = field? {
                            model.kind = kind;
                        }
                    }
                }
                (3, Value::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        if let (2, Value::Bytes(charsmap)) = field? {
                            model.charsmap = charsmap;
                        }
                    }
                }
                (1, _) => return None,
                _ => {}
            }
        }
        (!model.pieces.is_empty()).then_some(model)
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut piece = Self {
            text: String::new(),
            score: 0.0,
            kind: 1,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(text)) => piece.text = std::str::from_utf8(text).ok()?.to_string(),
                (2, Value::Four(score)) => piece.score = f32::from_le_bytes(score),
                (3, Value::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        Some(piece)
    }
}

fn build(model: Model<'_>) -> tokenizers::Result<Tokenizer> {
    if model.kind != UNIGRAM {
        return Err("the model is not of the kind unigram".into());
    }
    let unknown = model.pieces.iter().position(|piece| piece.kind == UNKNOWN);
    let end = model.pieces.iter().position(|piece| piece.text == END);
    let end = end.ok_or("no piece </s>")?;
    let added = |kinds: &[u64], special: bool| -> Vec<AddedToken> {
        let pieces = model
            .pieces
            .iter()
            .filter(|piece| kinds.contains(&piece.kind) || special && piece.text == PAD);
        pieces
            .map(|piece| AddedToken::from(piece.text.clone(), special).normalized(false))
            .collect()
    };
    let (special, defined) = (
        added(&[CONTROL, UNKNOWN], true),
        added(&[USER_DEFINED], false),
    );
    let scored = model.pieces.iter();
    let scored = scored.map(|piece| (piece.text.clone(), f64::from(piece.score)));
    let mut tokenizer = Tokenizer::new(Unigram::from(scored.collect(), unknown, false)?);
    if !model.charsmap.is_empty() {
        let normalizer = Precompiled::from(model.charsmap)
            .map_err(|error| format!("table of normalisation: {error:?}"))?;
        tokenizer.with_normalizer(Some(normalizer))?;
    }
    let metaspace = Metaspace::new('▁', PrependScheme::Always, true);
    let splits: Vec<PreTokenizerWrapper> = vec![WhitespaceSplit.into(), metaspace.clone().into()];
    tokenizer.with_pre_tokenizer(Some(Sequence::new(splits)));
    tokenizer.with_decoder(Some(metaspace));
    let template = TemplateProcessing::builder()
        .try_single(vec!["$A", END])?
        .special_tokens(vec![(END, u32::try_from(end)?)])
        .build()?;
    tokenizer.with_post_processor(Some(template));
    tokenizer.add_special_tokens(special)?;
    tokenizer.add_tokens(defined)?;
    Ok(tokenizer)
}

/// A value of a Protocol Buffers message.
enum Value<'a> {
    Number(u64),
    Four([u8; 4]),
    Eight,
    Bytes(&'a [u8]),
}

/// Numbers and values of a message's fields; `None` where it is damaged, and nothing after that.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.take(8).map(|_| Value::Eight)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}
