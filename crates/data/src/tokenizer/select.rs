//! Which tokenizer a model needs, and where its file is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclip_model::config::{ModelConfig, TextConfig};
use openclip_model::hub::{self, CacheDirs};
use openclip_model::text::vocabulary;
use serde_json::Value;

use super::clean::Clean;
use super::{ClipTokenizer, HfOptions, HfTokenizer, Tokenizer, within};
use crate::error::DataError;

/// The files that Hugging Face tokenizers are read from, the first that is there; mT5 is published with the second alone.
const FILES: [&str; 2] = ["tokenizer.json", "spiece.model"];

/// The tokenizer of a model, as OpenCLIP's `get_tokenizer` selects it: `text_cfg.hf_tokenizer_name` asks for a
/// [`HfTokenizer`], else it is CLIP's own.
///
/// A `tokenizer.json` or `spiece.model` is looked for in `dir` (the model's folder) if there is one; else in the
/// folder that the tokenizer's name is, under `~/.cache/openclip/tokenizers/`, in a folder named like the tokenizer with `--` for
/// `/`, and in Hugging Face's cache. If it is in none of them, it is downloaded.
///
/// # Errors
/// If the file is missing or cannot be used, an option of `text_cfg.tokenizer_kwargs` has a wrong value, or the tokenizer has more
/// ids than the model.
pub fn for_model(
    config: &ModelConfig,
    dir: Option<&Path>,
) -> Result<Arc<dyn Tokenizer>, DataError> {
    for_model_in(config, dir, &CacheDirs::new(None))
}

/// Like [`for_model`] with Hugging Face's cache in another place.
///
/// # Errors
/// Those of [`for_model`].
pub fn for_model_in(
    config: &ModelConfig,
    dir: Option<&Path>,
    caches: &CacheDirs,
) -> Result<Arc<dyn Tokenizer>, DataError> {
    let text = &config.text_cfg;
    let options = Options::read(text)?;
    let name = text.hf_tokenizer_name.as_deref();
    let name = name.filter(|name| !name.is_empty());
    let tokenizer: Arc<dyn Tokenizer> = match name {
        Some(name) => {
            let clips = text.extra.get("tokenizer_mode").and_then(Value::as_str) == Some("clips");
            let options = HfOptions {
                context_length: text.context_length,
                clean: options.clean.unwrap_or(Clean::Whitespace),
                strip_sep_token: options.strip_sep_token,
                class_token_last: clips,
                language: options.language,
            };
            Arc::new(HfTokenizer::from_file(&find(name, dir, caches)?, &options)?)
        }
        None => Arc::new(ClipTokenizer::with_clean(
            text.context_length,
            options.clean.unwrap_or_default(),
        )),
    };
    fitted(tokenizer, name.unwrap_or("CLIP"), config)
}

/// The tokenizer, if the model of `config` has a vector for each of its ids.
///
/// T5's sentinels, which SigLIP's published models have no vectors for, stand in no caption: one that has them is refused by itself.
fn fitted(
    tokenizer: Arc<dyn Tokenizer>,
    name: &str,
    config: &ModelConfig,
) -> Result<Arc<dyn Tokenizer>, DataError> {
    // A configuration of no model has its error where the model is built.
    let Ok(vocab_size) = vocabulary(config) else {
        return Ok(tokenizer);
    };
    let ids = tokenizer.vocab_size();
    let is_sentinel = |id| {
        let token = tokenizer.token(id);
        token.is_some_and(|token| token.contains("<extra_id_"))
    };
    match (vocab_size..ids).all(is_sentinel) {
        true => Ok(within(tokenizer, vocab_size)),
        false => Err(DataError::Vocabulary {
            tokenizer: name.into(),
            ids,
            vocab_size,
        }),
    }
}

/// The known keys of `tokenizer_kwargs`.
#[derive(Default)]
struct Options {
    clean: Option<Clean>,
    strip_sep_token: bool,
    language: Option<String>,
}

impl Options {
    fn read(config: &TextConfig) -> Result<Self, DataError> {
        let wrong = |name, value: &Value, expected| DataError::Setting {
            name,
            found: value.to_string(),
            expected,
        };
        let mut options = Self::default();
        for (key, value) in config
            .tokenizer_kwargs
            .iter()
            .filter(|(_, value)| !value.is_null())
        {
            match key.as_str() {
                "clean" => {
                    let clean = value.as_str().and_then(Clean::from_name).ok_or_else(|| {
                        wrong(
                            "tokenizer_kwargs.clean",
                            value,
                            "lower, whitespace or canonicalize",
                        )
                    })?;
                    options.clean = Some(clean);
                }
                "strip_sep_token" => {
                    options.strip_sep_token = value.as_bool().ok_or_else(|| {
                        wrong("tokenizer_kwargs.strip_sep_token", value, "true or false")
                    })?;
                }
                "language" => {
                    let language = value.as_str().ok_or_else(|| {
                        wrong("tokenizer_kwargs.language", value, "a language's code")
                    })?;
                    options.language = Some(language.to_string());
                }
                _ => log::warn!("tokenizer_kwargs.{key} is not known and has no effect"),
            }
        }
        Ok(options)
    }
}

/// The file of a tokenizer.
pub(super) fn find(
    name: &str,
    dir: Option<&Path>,
    caches: &CacheDirs,
) -> Result<PathBuf, DataError> {
    let failed = |reason| DataError::Tokenizer {
        file: name.into(),
        reason,
    };
    let [first, second] = FILES;
    let in_folder = |folder: &Path| {
        let files = FILES.map(|file| folder.join(file));
        files.into_iter().find(|file| file.is_file())
    };
    if let Some(dir) = dir {
        let missing = || {
            let dir = dir.display();
            failed(format!("not found; put its {first} or {second} into {dir}"))
        };
        return in_folder(dir).ok_or_else(missing);
    }
    if let Some(file) = in_folder(Path::new(name)) {
        return Ok(file);
    }
    let own = hub::cache::home_cache()
        .join("openclip/tokenizers")
        .join(name.replace('/', "--"));
    if let Some(file) = in_folder(&own) {
        return Ok(file);
    }
    let by_hand = format!("put it into {}", own.display());
    hub::file(name, &FILES, caches, &by_hand).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text_cfg: &str) -> ModelConfig {
        serde_json::from_str(&format!(
            r#"{{"embed_dim": 8, "vision_cfg": {{}}, "text_cfg": {text_cfg}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn models_without_a_name_use_clips_vocabulary() {
        let tokenizer = for_model(&config(r#"{"context_length": 5}"#), None).unwrap();
        assert_eq!(
            tokenizer.tokenize("A dog").unwrap(),
            [49406, 320, 1929, 49407, 0]
        );
        assert_eq!(tokenizer.vocab_size(), 49408);
        let canonical =
            config(r#"{"context_length": 5, "tokenizer_kwargs": {"clean": "canonicalize"}}"#);
        assert_eq!(
            for_model(&canonical, None)
                .unwrap()
                .tokenize("A, dog!")
                .unwrap(),
            [49406, 320, 1929, 49407, 0]
        );
    }

    #[test]
    fn errors_say_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        // A name that no repository has, so that the network is not asked.
        let named = config(r#"{"hf_tokenizer_name": "org/na me"}"#);
        let text = for_model(&named, Some(dir.path()))
            .err()
            .unwrap()
            .to_string();
        assert!(
            text.contains("org/na me") && text.contains("tokenizer.json"),
            "{text}"
        );
        let text = for_model(&named, None).err().unwrap().to_string();
        assert!(text.contains("ORG/NAME"), "{text}");
        let wrong = config(r#"{"tokenizer_kwargs": {"clean": "upper"}}"#);
        let text = for_model(&wrong, None).err().unwrap().to_string();
        assert!(
            text.contains("upper") && text.contains("canonicalize"),
            "{text}"
        );
    }
}
