//! Captions: what cleans them, every kind of tokenizer, and the files that hold them as JSON or lines.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;

use super::files::{shard, with_folder};
use openclip_data::source::keys::KeyOptions;
use openclip_data::source::open::{OpenOptions, open};
use openclip_data::source::{Item, Order, Sink};
use openclip_data::tokenizer::{
    Clean, ClipTokenizer, HfOptions, HfTokenizer, Tokenizer, is_cut_off,
};

const CLEANS: [Clean; 3] = [Clean::Lower, Clean::Whitespace, Clean::Canonicalize];
const LENGTH: usize = 32;

/// Small files of every kind that Hugging Face has.
const FILES: [&str; 7] = [
    "bpe/tokenizer.json",
    "unigram/tokenizer.json",
    "wordpiece/tokenizer.json",
    "roberta/tokenizer.json",
    "xlm_roberta/tokenizer.json",
    "nllb/tokenizer.json",
    "mt5/spiece.model",
];

type Pair = [Box<dyn Tokenizer>; 2];

/// Each once as it is and once with room for one token more.
static TOKENIZERS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/data/tokens");
    let clip = CLEANS.map(|clean| {
        [LENGTH, LENGTH + 1].map(|length| -> Box<dyn Tokenizer> {
            Box::new(ClipTokenizer::with_clean(length, clean))
        })
    });
    let read = |file: &str| {
        [LENGTH, LENGTH + 1].map(|length| -> Box<dyn Tokenizer> {
            let path = folder.join(file);
            Box::new(HfTokenizer::from_file(&path, &HfOptions::new(length)).expect("a tokenizer"))
        })
    };
    clip.into_iter().chain(FILES.map(read)).collect()
});

/// Reads everything that there is.
struct All;

impl Sink for All {
    fn jump(&mut self, _: usize) -> usize {
        0
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        if let Item::Sample(sample) = item {
            let _ = (sample.place(), sample.bytes());
        }
        ControlFlow::Continue(())
    }
}

fn tokenize(text: &str, choice: usize) {
    for clean in CLEANS {
        let _ = clean.apply(text);
    }
    let tokenizers = &*TOKENIZERS;
    let [tokenizer, longer] = &tokenizers[choice % tokenizers.len()];
    let Ok(ids) = tokenizer.tokenize(text) else {
        return;
    };
    assert_eq!(ids.len(), LENGTH);
    let vocab = tokenizer.vocab_size();
    let is_known = |id: &i32| usize::try_from(*id).is_ok_and(|id| vocab == 0 || id < vocab);
    assert!(ids.iter().all(is_known), "{ids:?}");
    let _ = tokenizer.decode(&ids);
    let _ = is_cut_off(&**tokenizer, &**longer, text);
}

/// The `.json` of a sample, with one field and with two that are drawn.
fn read_json(folder: &Path, json: &[u8]) {
    let path = folder.join("a.tar");
    let archive = shard(&[
        ("a.jpg", b"picture"),
        ("a.json", json),
        ("b.jpg", b""),
        ("b.txt", json),
    ]);
    std::fs::write(&path, archive).expect("room for an input");
    for json_text_key in [None, Some("caption;a".to_owned())] {
        let json_text_key_probs = json_text_key
            .as_ref()
            .map_or(Vec::new(), |_| vec![0.5, 0.5]);
        let options = OpenOptions {
            dataset_type: "webdataset".into(),
            keys: KeyOptions {
                json_text_key,
                json_text_key_probs,
                ..KeyOptions::default()
            },
            ..OpenOptions::default()
        };
        let opened = open(&path.to_string_lossy(), &options).expect("one shard");
        let _ = opened.source.pass(&Order::sequential(), 0, &mut All);
    }
}

/// Files of captions, under names by which the kinds know them. `#train` is a split.
fn read_files(folder: &Path, bytes: &[u8]) {
    for name in [
        "captions.json",
        "dataset_flickr8k.json",
        "r.token",
        "captions.txt",
    ] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("room for an input");
        for split in ["", "#train"] {
            let spec = format!("{}{split}", path.display());
            // An error is an answer too.
            if let Ok(opened) = open(&spec, &OpenOptions::default()) {
                let _ = opened.source.pass(&Order::sequential(), 0, &mut All);
            }
        }
    }
}

pub fn captions(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else {
        return;
    };
    tokenize(&String::from_utf8_lossy(text), usize::from(choice));
    with_folder(|folder| match choice & 0x80 {
        0 => read_json(folder, text),
        _ => read_files(folder, text),
    });
}
