//! Token ids against open_clip's, written by `tests/parity/export_tokens.py`.

use std::path::Path;

use flate2::read::GzDecoder;
use openclip_data::tokenizer::{
    Clean, ClipTokenizer, HfOptions, HfTokenizer, Tokenizer, for_model,
};
use openclip_tests::fixture;
use serde_json::{Value, from_reader, from_value, json};

fn read(path: &Path) -> Value {
    from_reader(GzDecoder::new(std::fs::File::open(path).unwrap())).unwrap()
}

macro_rules! take {
    ($file:ident, $key:literal) => {
        from_value($file[$key].take()).unwrap()
    };
}

/// Compares every row and names the first caption that differs.
fn compare(captions: &[String], rows: &[Vec<i32>], tokenizer: &dyn Tokenizer, what: &str) {
    assert_eq!(captions.len(), rows.len());
    let wrong = |(caption, row): (&String, &Vec<i32>)| {
        let mut expected = row.clone();
        expected.resize(tokenizer.context_length(), 0);
        tokenizer.tokenize(caption).unwrap() != expected
    };
    let wrong: Vec<usize> = (0..rows.len())
        .filter(|&at| wrong((&captions[at], &rows[at])))
        .collect();
    let Some(&at) = wrong.first() else { return };
    for &at in wrong.iter().take(20) {
        eprintln!("{at}: {:?}", captions[at]);
    }
    panic!(
        "{what}: {} of {} captions differ; the first is {at}, {:?}:\n  found    {:?} {:?}\n  expected {:?} {:?}",
        wrong.len(),
        rows.len(),
        captions[at],
        tokenizer.tokenize(&captions[at]).unwrap(),
        tokenizer.decode(&tokenizer.tokenize(&captions[at]).unwrap()),
        rows[at],
        tokenizer.decode(&rows[at]),
    );
}

#[test]
fn clip_gives_open_clips_ids() {
    let mut file = read(&fixture("tokens/captions.json.gz"));
    let captions: Vec<String> = take!(file, "captions");
    assert!(captions.len() > 10_000);
    let rows: Vec<Vec<i32>> = take!(file, "rows");
    compare(&captions, &rows, &ClipTokenizer::new(77), "SimpleTokenizer");

    let lengths: Vec<(usize, usize, Vec<i32>)> = take!(file, "lengths");
    assert!(lengths.len() > 300);
    for (length, at, mut row) in lengths {
        row.resize(length, 0);
        assert_eq!(
            ClipTokenizer::new(length).tokenize(&captions[at]).unwrap(),
            row,
            "{length}: {:?}",
            captions[at]
        );
    }

    let cleaned: Vec<(String, usize, String, Vec<i32>)> = take!(file, "cleaned");
    assert!(cleaned.len() > 800);
    for (name, at, text, mut row) in cleaned {
        let clean = Clean::from_name(&name).unwrap();
        assert_eq!(
            clean.apply(&captions[at]),
            text,
            "{name}: {:?}",
            captions[at]
        );
        row.resize(77, 0);
        assert_eq!(
            ClipTokenizer::with_clean(77, clean)
                .tokenize(&captions[at])
                .unwrap(),
            row,
            "{name}: {text:?}"
        );
    }

    let decoded: Vec<(Vec<i32>, String)> = take!(file, "decoded");
    assert!(decoded.len() > 500);
    let tokenizer = ClipTokenizer::new(77);
    for (ids, text) in decoded {
        assert_eq!(tokenizer.decode(&ids), text, "{ids:?}");
    }
}

/// Random strings from `export_tokens.py --fuzz`, read from the file that `OPENCLIP_TOKENS` names.
#[test]
#[ignore = "needs a file of random captions"]
fn clip_gives_open_clips_ids_of_random_captions() {
    let path = std::env::var("OPENCLIP_TOKENS").unwrap();
    let mut file = read(Path::new(&path));
    let captions: Vec<String> = take!(file, "captions");
    let rows: Vec<Vec<i32>> = take!(file, "rows");
    println!("{} captions", captions.len());
    compare(&captions, &rows, &ClipTokenizer::new(77), "SimpleTokenizer");
}

/// Compares the cases of a file of captions and of what `HFTokenizer` makes of them.
fn compare_hugging_face(file: &str) -> usize {
    let mut file = read(&fixture(file));
    let captions: Vec<String> = take!(file, "captions");
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let folder = case["folder"].as_str().unwrap();
        let set = |key: &str| case["options"][key].as_str();
        let options = HfOptions {
            clean: set("clean").map_or(Clean::Whitespace, |name| Clean::from_name(name).unwrap()),
            strip_sep_token: case["options"]["strip_sep_token"] == json!(true),
            class_token_last: set("tokenizer_mode") == Some("clips"),
            language: set("language").map(String::from),
            ..HfOptions::new(case["context_length"].as_u64().unwrap() as usize)
        };
        let folder_path = fixture(&format!("tokens/{folder}"));
        let files = ["tokenizer.json", "spiece.model"].map(|file| folder_path.join(file));
        let path = files.iter().find(|path| path.is_file()).unwrap();
        let tokenizer = HfTokenizer::from_file(path, &options).unwrap();
        let rows: Vec<Vec<i32>> = from_value(case["rows"].clone()).unwrap();
        compare(
            &captions,
            &rows,
            &tokenizer,
            &format!("{folder} {options:?}"),
        );
    }
    cases.len()
}

#[test]
fn hugging_face_tokenizers_give_open_clips_ids() {
    assert!(compare_hugging_face("tokens/hf.json.gz") >= 7);
}

/// Those of RoBERTa, XLM-RoBERTa, NLLB and mT5, written by `tests/parity/export_hftext_tokens.py`.
#[test]
fn tokenizers_of_hugging_face_towers_give_open_clips_ids() {
    assert_eq!(compare_hugging_face("tokens/hf_text.json.gz"), 9);
}

#[test]
fn hugging_face_towers_select_their_tokenizer() {
    let config = |model: &str, kwargs: Value| {
        let text = json!({
            "hf_model_name": model, "hf_tokenizer_name": model, "context_length": 8, "tokenizer_kwargs": kwargs,
        });
        from_value(json!({"embed_dim": 8, "vision_cfg": {}, "text_cfg": text})).unwrap()
    };
    let tokenize = |folder: &str, kwargs| {
        let dir = fixture(&format!("tokens/{folder}"));
        let tokenizer = for_model(&config("org/name", kwargs), Some(&dir))?;
        tokenizer.tokenize("a")
    };
    assert_eq!(
        tokenize("roberta", json!({})).unwrap()[2..],
        [2, 1, 1, 1, 1, 1]
    );
    assert_eq!(
        tokenize("mt5", json!({})).unwrap()[1..],
        [1, 0, 0, 0, 0, 0, 0]
    );
    let [english, french] = ["eng_Latn", "fra_Latn"]
        .map(|language| tokenize("nllb", json!({"language": language})).unwrap());
    assert_eq!(english, tokenize("nllb", json!({})).unwrap());
    assert_ne!(english[0], french[0]);
    assert_eq!(english[1..], french[1..]);
    for (folder, language) in [("nllb", "xxx_Latn"), ("mt5", "fra_Latn")] {
        let error = tokenize(folder, json!({"language": language})).unwrap_err();
        assert!(error.to_string().contains(language), "{error}");
    }
    // A name may be the folder itself.
    let folder = fixture("tokens/mt5");
    let named = config(folder.to_str().unwrap(), json!({}));
    assert_eq!(for_model(&named, None).unwrap().tokenize("").unwrap()[0], 1);
}

/// A damaged file is an error, or a tokenizer where only the end is missing; nothing panics.
#[test]
fn damaged_sentencepiece_files_are_refused() {
    let whole = std::fs::read(fixture("tokens/mt5/spiece.model")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spiece.model");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        HfTokenizer::from_file(&path, &HfOptions::new(8))
    };
    assert!(load(&whole).is_ok());
    let mut refused = 0;
    for length in (0..whole.len()).step_by(97) {
        refused += usize::from(load(&whole[..length]).is_err());
    }
    assert!(refused * 97 > whole.len() / 2, "{refused}");
    for place in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        if let Ok(ids) = load(&bytes).and_then(|tokenizer| tokenizer.tokenize("a photo of a dog")) {
            assert_eq!(ids.len(), 8);
        }
    }
    for bytes in [
        &b"{}"[..],
        &[
            0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ],
    ] {
        let error = load(bytes).err().unwrap().to_string();
        assert!(error.contains("spiece.model"), "{error}");
    }
}

#[test]
fn models_select_their_tokenizer() {
    let config = |text: Value| {
        from_value(json!({"embed_dim": 8, "vision_cfg": {}, "text_cfg": text})).unwrap()
    };
    let dir = fixture("tokens/wordpiece");
    let clipa = config(json!({
        "context_length": 8,
        "hf_tokenizer_name": "bert-base-uncased",
        "tokenizer_kwargs": {"strip_sep_token": true},
    }));
    let ids = for_model(&clipa, Some(&dir)).unwrap();
    let ids = ids.tokenize("a photo").unwrap();
    assert_eq!((ids.len(), ids[0], ids[7]), (8, 2, 0));
    assert!(!ids.contains(&3), "{ids:?}");
    let clips =
        config(json!({"context_length": 8, "hf_tokenizer_name": "x", "tokenizer_mode": "clips"}));
    assert_eq!(
        for_model(&clips, Some(&dir))
            .unwrap()
            .tokenize("a photo")
            .unwrap()[7],
        2
    );
    let plain = for_model(&config(json!({"context_length": 8})), Some(&dir)).unwrap();
    assert_eq!(
        plain.tokenize("a photo").unwrap(),
        [49406, 320, 1125, 49407, 0, 0, 0, 0]
    );
    let missing = for_model(&clipa, Some(&fixture("tokens")))
        .err()
        .unwrap()
        .to_string();
    assert!(
        missing.contains("bert-base-uncased") && missing.contains("tokenizer.json"),
        "{missing}"
    );
    assert!(HfTokenizer::from_file(&dir.join("tokenizer.json"), &HfOptions::new(1)).is_err());
}

#[test]
fn tokenizers_are_shared_between_threads() {
    let mut file = read(&fixture("tokens/captions.json.gz"));
    let captions: Vec<String> = take!(file, "captions");
    let rows: Vec<Vec<i32>> = take!(file, "rows");
    let tokenizer: std::sync::Arc<dyn Tokenizer> = std::sync::Arc::new(ClipTokenizer::new(77));
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (tokenizer, range) = (&tokenizer, part * 500..part * 500 + 1000);
            let (captions, rows) = (&captions[range.clone()], &rows[range]);
            scope.spawn(move || compare(captions, rows, tokenizer.as_ref(), "SimpleTokenizer"));
        }
    });
}

/// A download that broke off in its last part was a panic.
#[test]
fn a_tokenizer_that_ends_too_early_is_an_error() {
    let whole = std::fs::read(fixture("tokens/roberta/tokenizer.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    for length in (0..whole.len()).step_by(23) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = HfTokenizer::from_file(&path, &HfOptions::new(8))
            .err()
            .unwrap();
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}

/// A vocabulary without a token for what it does not know has no ids for some captions; zeros are the ids of other tokens.
#[test]
fn a_caption_without_ids_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let vocabulary = json!({"[PAD]": 0, "a": 1, "dog": 2});
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let tokenizer = HfTokenizer::from_file(&path, &HfOptions::new(3)).unwrap();
    assert_eq!(tokenizer.tokenize("a dog").unwrap(), [1, 2, 0]);
    let error = tokenizer.tokenize("a cat").unwrap_err().to_string();
    assert!(error.contains("\"a cat\""), "{error}");
}

/// A tokenizer and a model meet where the tokenizer is chosen; T5's sentinels, which stand in no caption, may be beyond the model.
#[test]
fn a_tokenizer_with_more_ids_than_the_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = |ids: usize| {
        from_value(json!({"embed_dim": 8, "vision_cfg": {}, "text_cfg": {
            "context_length": 4, "vocab_size": ids, "hf_tokenizer_name": "org/name",
        }}))
        .unwrap()
    };
    let write = |extra: &str| {
        let mut vocabulary = json!({"[PAD]": 0, "[UNK]": 1, "a": 2, "dog": 3});
        vocabulary[extra] = json!(4);
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": [{"id": 4, "content": extra, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}],
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocabulary},
        });
        std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    };
    write("cat");
    assert!(for_model(&config(5), Some(dir.path())).is_ok());
    let error = for_model(&config(4), Some(dir.path())).err().unwrap();
    let error = error.to_string();
    for word in ["org/name", "5", "text_cfg.vocab_size", "4"] {
        assert!(error.contains(word), "{error}");
    }
    write("<extra_id_0>");
    let tokenizer = for_model(&config(4), Some(dir.path())).unwrap();
    assert_eq!(tokenizer.tokenize("a dog").unwrap(), [2, 3, 0, 0]);
    let error = tokenizer.tokenize("a <extra_id_0>").unwrap_err();
    assert!(error.to_string().contains("id 4"), "{error}");
    assert!(for_model(&config(3), Some(dir.path())).is_err());
}
