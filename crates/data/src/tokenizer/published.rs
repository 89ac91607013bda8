//! The files of a tokenizer as repositories of the hub have them, CLIP's own made from its tables.

use std::fs;
use std::path::Path;

use openclip_model::config::ModelConfig;
use openclip_model::hub::{self, CacheDirs};
use serde_json::{Map, Value, json};

use super::select;
use super::vocab::{END, START, published};
use crate::error::DataError;

/// Files that a tokenizer may have.
const NAMES: [&str; 9] = [
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
];

/// CLIP's special tokens as Hugging Face spells them.
const SPECIAL: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];

/// CLIP's pattern of a word, in the syntax of Hugging Face's tokenizers.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The files of a model's tokenizer, by name: those of `dir`, the model's folder, if it has any; else those of the Hugging Face
/// tokenizer that the configuration names; else CLIP's own.
///
/// # Errors
/// A file cannot be read, or the named tokenizer cannot be found.
pub fn files(
    config: &ModelConfig,
    dir: Option<&Path>,
    caches: &CacheDirs,
) -> Result<Vec<(String, Vec<u8>)>, DataError> {
    let beside = |folder: &Path| {
        let there = NAMES.map(|name| (name, folder.join(name)));
        let there = there.into_iter().filter(|(_, path)| path.is_file());
        let read = there.map(|(name, path)| {
            let bytes = fs::read(&path).map_err(|source| DataError::Io { path, source })?;
            Ok((name.to_string(), bytes))
        });
        read.collect::<Result<Vec<_>, DataError>>()
    };
    if let Some(dir) = dir {
        let own = beside(dir)?;
        if !own.is_empty() {
            return Ok(own);
        }
    }
    let name = config.text_cfg.hf_tokenizer_name.as_deref();
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(clip(config.text_cfg.context_length));
    };
    let file = select::find(name, None, caches)?;
    for other in NAMES {
        // A tokenizer has some of them alone, and the first is enough to encode with.
        if let Err(error) = hub::file(name, &[other], caches, "") {
            log::debug!("{other} of {name}: {error}");
        }
    }
    beside(file.parent().unwrap_or(Path::new(".")))
}

/// The files of CLIP's tokenizer, for captions of `length` tokens.
fn clip(length: usize) -> Vec<(String, Vec<u8>)> {
    let (tokens, merges) = published(SPECIAL);
    let [start, end] = SPECIAL;
    let special = |token: &str| json!({"content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true});
    let vocab: Map<String, Value> = tokens.into_iter().zip((0..).map(Value::from)).collect();
    let lines: Vec<String> = merges
        .iter()
        .map(|[left, right]| format!("{left} {right}"))
        .collect();
    let added = |id: u16, token: &str| {
        let mut added = special(token);
        added["id"] = id.into();
        added["special"] = true.into();
        added["normalized"] = false.into();
        added
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(START, start), added(END, end)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {
            "type": "RobertaProcessing", "sep": [end, END], "cls": [start, START],
            "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": end, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": vocab, "merges": lines,
        },
    });
    let settings = json!({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": length, "do_lower_case": true, "errors": "replace",
        "add_prefix_space": false, "bos_token": special(start), "eos_token": special(end), "unk_token": special(end),
        "pad_token": end,
    });
    let map = json!({
        "bos_token": special(start), "eos_token": special(end), "unk_token": special(end), "pad_token": end,
    });
    let merges = format!("#version: 0.2\n{}\n", lines.join("\n"));
    let files = [
        ("tokenizer.json", tokenizer.to_string()),
        ("tokenizer_config.json", format!("{settings:#}\n")),
        ("special_tokens_map.json", format!("{map:#}\n")),
        ("vocab.json", Value::Object(vocab).to_string()),
        ("merges.txt", merges),
    ];
    let named = files
        .into_iter()
        .map(|(name, text)| (name.to_string(), text.into_bytes()));
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Clean, ClipTokenizer, HfOptions, HfTokenizer, Tokenizer};
    use super::*;

    fn config(text_cfg: &str) -> ModelConfig {
        serde_json::from_str(&format!(
            r#"{{"embed_dim": 8, "vision_cfg": {{}}, "text_cfg": {text_cfg}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn clips_files_encode_as_clip_does() {
        let dir = tempfile::tempdir().unwrap();
        let caches = CacheDirs::new(Some(dir.path()));
        let found = files(&config(r#"{"context_length": 20}"#), None, &caches).unwrap();
        assert_eq!(found.len(), 5);
        for (name, bytes) in &found {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let options = HfOptions {
            context_length: 20,
            clean: Clean::Whitespace,
            strip_sep_token: false,
            class_token_last: false,
            language: None,
        };
        let file = dir.path().join("tokenizer.json");
        let theirs = HfTokenizer::from_file(&file, &options).unwrap();
        let own = ClipTokenizer::new(20);
        for text in [
            "a photo of a cat",
            "It's the DOG's 2nd  birthday!!",
            "naïve café – Ωμέγα, 日本語 🙂",
            "",
        ] {
            let (mut theirs, own) = (theirs.tokenize(text).unwrap(), own.tokenize(text).unwrap());
            let end = own.iter().position(|id| *id == i32::from(END)).unwrap();
            theirs.truncate(end + 1);
            assert_eq!(theirs, own[..=end], "{text}");
        }
        let merges = fs::read_to_string(dir.path().join("merges.txt")).unwrap();
        assert!(merges.starts_with("#version: 0.2\ni n\nt h\na n\n"));
        assert_eq!(merges.lines().count(), 48_895);
    }

    #[test]
    fn a_folders_own_files_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let caches = CacheDirs::new(Some(dir.path()));
        let named = config(r#"{"hf_tokenizer_name": "org/na me"}"#);
        assert!(files(&named, None, &caches).is_err());
        for name in ["vocab.txt", "notes.txt"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let found = files(&named, Some(dir.path()), &caches).unwrap();
        assert_eq!(found, [("vocab.txt".to_string(), b"vocab.txt".to_vec())]);
    }
}
