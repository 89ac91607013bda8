//! OpenCLIP's `HFTokenizer`: a Hugging Face `tokenizer.json`, or SentencePiece's `spiece.model`.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    PaddingDirection, PaddingParams, PaddingStrategy, TruncationDirection, TruncationParams,
};

use super::clean::Clean;
use super::{Tokenizer, sentencepiece};
use crate::error::DataError;

/// How an [`HfTokenizer`] treats captions.
#[derive(Debug, Clone)]
pub struct HfOptions {
    /// Number of ids of a caption, special tokens and padding included.
    pub context_length: usize,
    /// How captions are cleaned.
    pub clean: Clean,
    /// Puts 0 in the place of the separator's id (`[SEP]`), as CLIPA's models were trained.
    pub strip_sep_token: bool,
    /// Puts the class token last, behind the padding, as CLIPS' models were trained (OpenCLIP's `tokenizer_mode`
    /// `clips`).
    pub class_token_last: bool,
    /// Code of the captions' language, for a tokenizer of NLLB; else the one that its settings name, or English.
    pub language: Option<String>,
}

impl HfOptions {
    /// OpenCLIP's defaults.
    pub fn new(context_length: usize) -> Self {
        Self {
            context_length,
            clean: Clean::Whitespace,
            strip_sep_token: false,
            class_token_last: false,
            language: None,
        }
    }
}

/// What is done with the ids of the caption's words.
enum Frame {
    /// The tokenizer's own special tokens, truncation and padding; one id may be replaced by 0.
    Own { zeroed: Option<i32> },
    /// Begin, words, end, padding, class token.
    ClassLast {
        begin: i32,
        end: i32,
        pad: i32,
        class: i32,
    },
}

/// What NLLB's settings name if they say nothing.
const ENGLISH: &str = "eng_Latn";

/// A tokenizer read from a file.
pub struct HfTokenizer {
    inner: tokenizers::Tokenizer,
    context_length: usize,
    clean: Clean,
    frame: Frame,
}

impl HfTokenizer {
    /// Reads `tokenizer.json` or `spiece.model` and, for the names of the special tokens and the side of padding, `tokenizer_config.json`
    /// and `special_tokens_map.json` where they lie beside it.
    ///
    /// # Errors
    /// If a file cannot be read, or an option needs a special token that the tokenizer does not have.
    pub fn from_file(path: &Path, options: &HfOptions) -> Result<Self, DataError> {
        let error = |reason: String| DataError::Tokenizer {
            file: path.display().to_string(),
            reason,
        };
        let mut inner = match path.extension().is_some_and(|e| e == "model") {
            true => sentencepiece::read(path).map_err(error)?,
            false => read_json(path).map_err(error)?,
        };
        let settings = Settings::beside(path)?;
        if settings.is_nllb(&inner) {
            let language = options.language.clone().or(settings.text("src_lang"));
            let language = language.unwrap_or_else(|| ENGLISH.into());
            frame_with_language(&mut inner, &language, settings.flag("legacy_behaviour"))
                .map_err(|source| error(format!("language {language}: {source}")))?;
        } else if let Some(language) = &options.language {
            return Err(error(format!(
                "language {language}: the tokenizer has no languages"
            )));
        }
        let id = |role, names: &[&str]| settings.id(&inner, role, names);
        let pad = id("pad_token", &["[PAD]", "<pad>"]);
        let needed = |role, names: &[&str], option: &str| {
            id(role, names)
                .map(|(id, _)| id as i32)
                .ok_or_else(|| error(format!("no {role}, which {option} needs")))
        };
        let frame = if options.class_token_last {
            let option = "tokenizer_mode `clips`";
            Frame::ClassLast {
                begin: needed("bos_token", &[], option)?,
                end: needed("eos_token", &[], option)?,
                pad: needed("pad_token", &["[PAD]", "<pad>"], option)?,
                class: needed("cls_token", &["[CLS]"], option)?,
            }
        } else {
            let zeroed = options
                .strip_sep_token
                .then(|| needed("sep_token", &["[SEP]", "</s>"], "strip_sep_token"));
            Frame::Own {
                zeroed: zeroed.transpose()?,
            }
        };
        if options.class_token_last {
            inner.with_padding(None);
            inner
                .with_truncation(None)
                .map_err(|source| error(source.to_string()))?;
        } else {
            let own = inner
                .get_padding()
                .map(|padding| (padding.pad_id, padding.pad_token.clone()));
            let (pad_id, pad_token) = pad.or(own).ok_or_else(|| {
                error("no pad_token in it nor in tokenizer_config.json beside it".into())
            })?;
            let left = |key| settings.text(key).as_deref() == Some("left");
            inner.with_padding(Some(PaddingParams {
                strategy: PaddingStrategy::Fixed(options.context_length),
                direction: if left("padding_side") {
                    PaddingDirection::Left
                } else {
                    PaddingDirection::Right
                },
                pad_id,
                pad_token,
                ..PaddingParams::default()
            }));
            let truncation = TruncationParams {
                max_length: options.context_length,
                direction: if left("truncation_side") {
                    TruncationDirection::Left
                } else {
                    TruncationDirection::Right
                },
                ..TruncationParams::default()
            };
            inner.with_truncation(Some(truncation)).map_err(|source| {
                error(format!(
                    "context length {}: {source}",
                    options.context_length
                ))
            })?;
        }
        let tokenizer = Self {
            inner,
            context_length: options.context_length,
            clean: options.clean,
            frame,
        };
        let found = tokenizer.tokenize("")?.len();
        if found != options.context_length {
            let length = options.context_length;
            return Err(error(format!(
                "{found} special tokens do not fit into a context length of {length}"
            )));
        }
        Ok(tokenizer)
    }
}

impl Tokenizer for HfTokenizer {
    fn context_length(&self) -> usize {
        self.context_length
    }

    fn tokenize(&self, text: &str) -> Result<Vec<i32>, DataError> {
        let own = matches!(self.frame, Frame::Own { .. });
        let encoding = self
            .inner
            .encode_fast(self.clean.apply(text), own)
            .map_err(|reason| DataError::caption(text, reason))?;
        let mut ids: Vec<i32> = encoding.get_ids().iter().map(|&id| id as i32).collect();
        match self.frame {
            Frame::Own { zeroed } => {
                for id in ids.iter_mut().filter(|id| zeroed == Some(**id)) {
                    *id = 0;
                }
            }
            Frame::ClassLast {
                begin,
                end,
                pad,
                class,
            } => {
                ids.truncate(self.context_length.saturating_sub(3));
                ids.insert(0, begin);
                ids.push(end);
                ids.resize(self.context_length.saturating_sub(1), pad);
                ids.push(class);
            }
        }
        Ok(ids)
    }

    fn decode(&self, ids: &[i32]) -> String {
        let ids: Vec<u32> = ids
            .iter()
            .filter_map(|&id| u32::try_from(id).ok())
            .collect();
        self.inner.decode(&ids, true).unwrap_or_default()
    }

    fn special_tokens(&self) -> Vec<(String, i32)> {
        let added = self.inner.get_added_tokens_decoder().into_iter();
        let special = added.filter(|(_, token)| token.special);
        let mut named: Vec<_> = special
            .map(|(id, token)| (token.content, id as i32))
            .collect();
        named.sort_by_key(|(_, id)| *id);
        named
    }

    fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    fn token(&self, id: usize) -> Option<String> {
        self.inner.id_to_token(u32::try_from(id).ok()?)
    }
}

/// Reads a `tokenizer.json`.
fn read_json(path: &Path) -> Result<tokenizers::Tokenizer, String> {
    /// The part in which the crate takes an error of the JSON for its own.
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "decoder")]
        _decoder: Option<Value>,
    }
    let text = std::fs::read_to_string(path).map_err(|source| source.to_string())?;
    serde_json::from_str::<Probe>(&text).map_err(|source| source.to_string())?;
    text.parse()
        .map_err(|source: tokenizers::Error| source.to_string())
}

/// Puts the language's code first and the end last, whatever the file says; the old way is both last.
fn frame_with_language(
    inner: &mut tokenizers::Tokenizer,
    language: &str,
    legacy: bool,
) -> tokenizers::Result<()> {
    let special =
        [language, "</s>"].map(|token| Some((token.to_string(), inner.token_to_id(token)?)));
    let [Some(code), Some(end)] = special else {
        return Err("no such token, or none that ends a caption".into());
    };
    let template = match legacy {
        true => vec!["$A", &end.0, &code.0],
        false => vec![&code.0, "$A", &end.0],
    };
    let template = TemplateProcessing::builder()
        .try_single(template)?
        .special_tokens(vec![code.clone(), end.clone()])
        .build()?;
    inner.with_post_processor(Some(template));
    Ok(())
}

/// What the files beside `tokenizer.json` say.
struct Settings(Vec<Value>);

impl Settings {
    fn beside(path: &Path) -> Result<Self, DataError> {
        let files = ["tokenizer_config.json", "special_tokens_map.json"]
            .map(|name| path.with_file_name(name));
        let read = files.iter().filter(|file| file.is_file()).map(|file| {
            let text = std::fs::read_to_string(file).map_err(|source| DataError::Io {
                path: file.clone(),
                source,
            })?;
            serde_json::from_str(&text).map_err(|source| DataError::Tokenizer {
                file: file.display().to_string(),
                reason: source.to_string(),
            })
        });
        Ok(Self(read.collect::<Result<_, _>>()?))
    }

    /// A setting, or the text of a token.
    fn text(&self, key: &str) -> Option<String> {
        let values = self.0.iter().filter_map(|file| file.get(key));
        let mut texts = values.filter_map(|value| value.get("content").unwrap_or(value).as_str());
        texts.next().map(String::from)
    }

    fn flag(&self, key: &str) -> bool {
        let mut values = self.0.iter().filter_map(|file| file.get(key)?.as_bool());
        values.next().unwrap_or(false)
    }

    /// Whether it is NLLB's: by the name of its class, or by its languages where there is none.
    fn is_nllb(&self, inner: &tokenizers::Tokenizer) -> bool {
        match self.text("tokenizer_class") {
            Some(class) => class.starts_with("Nllb"),
            None => inner.token_to_id(ENGLISH).is_some(),
        }
    }

    /// Id and text of a special token: the one that the settings name, else the first of `names` that there is.
    fn id(
        &self,
        inner: &tokenizers::Tokenizer,
        role: &str,
        names: &[&str],
    ) -> Option<(u32, String)> {
        let candidates: Vec<String> = match self.text(role) {
            Some(token) => vec![token],
            None => names.iter().map(|&name| name.into()).collect(),
        };
        candidates
            .into_iter()
            .find_map(|token| Some((inner.token_to_id(&token)?, token)))
    }
}
