//! Files of every kind that is read, with bytes changed, cut out and put in at random: each is read, or refused with an error;
//! nothing panics. `OPENCLIP_DAMAGES` says how many of each kind, where a few are not enough.

use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use openclip_data::error::panic_message;
use openclip_data::source::csv::{Csv, CsvFormat};
use openclip_data::source::shards::Shards;
use openclip_data::source::shuffle::ShuffleSize;
use openclip_data::source::{Item, Order, Sink, Source};
use openclip_data::tokenizer::{HfOptions, HfTokenizer, Tokenizer};
use openclip_eval::zero_shot::Prompts;
use openclip_model::factory::{self, CreateOptions};
use openclip_model::weights::StateDict;
use openclip_tests::{device, fixture};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::tar;

/// Damages of each file, unless the environment says another number.
const FEW: usize = 12;

fn count() -> usize {
    let given = std::env::var("OPENCLIP_DAMAGES").ok();
    given.map_or(FEW, |count| count.parse().unwrap())
}

/// `whole` with one to four places damaged.
fn damaged(whole: &[u8], rng: &mut StdRng) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"0",
        b"-1",
        b"18446744073709551615",
        b"1e999",
        b"null",
        b"[",
        b"{",
        b"\"",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"",
        b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    ];
    let mut bytes = whole.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(0..12)).min(bytes.len());
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                bytes.splice(at..end, word.iter().copied());
            }
            _ => bytes[at..end]
                .iter_mut()
                .for_each(|byte| *byte ^= rng.random::<u8>()),
        }
    }
    bytes
}

/// Every file of a folder and those below it whose name ends so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path, end)),
            false if path.to_str().unwrap().ends_with(end) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// Reads damaged copies of `whole` under the name `name` in a folder with `beside` in it.
fn read_all(name: &str, whole: &[u8], beside: &[PathBuf], read: impl Fn(&Path)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for file in beside {
        fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join(name);
    let mut panics = Vec::new();
    for seed in 0..count() as u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        fs::write(&path, damaged(whole, &mut rng)).unwrap();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| read(&path))) {
            panics.push(format!("{name} {seed}: {}", panic_message(panic.as_ref())));
        }
    }
    panics
}

fn none(panics: Vec<String>) {
    assert!(
        panics.is_empty(),
        "{} panics:\n{}",
        panics.len(),
        panics.join("\n")
    );
}

#[test]
fn damaged_tokenizers() {
    let mut panics = Vec::new();
    for name in ["tokenizer.json", "spiece.model", "tokenizer_config.json"] {
        for file in files(&fixture("tokens"), name) {
            let folder = file.parent().unwrap();
            let beside = files(folder, "");
            let read = |path: &Path| {
                let tokenizer =
                    ["tokenizer.json", "spiece.model"].map(|name| path.with_file_name(name));
                let tokenizer = tokenizer.into_iter().find(|path| path.is_file()).unwrap();
                let Ok(tokenizer) = HfTokenizer::from_file(&tokenizer, &HfOptions::new(9)) else {
                    return;
                };
                for text in ["a photo of a dog", "", "ﬁné 你好 😀 <s></s>[SEP]"] {
                    if let Ok(ids) = tokenizer.tokenize(text) {
                        assert_eq!(ids.len(), 9);
                        tokenizer.decode(&ids);
                    }
                }
            };
            let found = read_all(name, &fs::read(&file).unwrap(), &beside, read);
            panics.extend(
                found
                    .into_iter()
                    .map(|text| format!("{}: {text}", folder.display())),
            );
        }
    }
    none(panics);
}

#[test]
fn damaged_weights() {
    let mut panics = Vec::new();
    for end in [".pt", ".npz", ".pkl", ".safetensors"] {
        for file in files(&fixture("weights"), end) {
            let read = |path: &Path| {
                let Ok(dict) = StateDict::read(path) else {
                    return;
                };
                for tensor in dict
                    .tensors
                    .values()
                    .filter(|tensor| tensor.numel() <= 1 << 20)
                {
                    let _ = tensor.to_f32();
                    let _ = tensor.to_bytes();
                }
            };
            let name = file.file_name().unwrap().to_str().unwrap();
            panics.extend(read_all(name, &fs::read(&file).unwrap(), &[], read));
        }
    }
    none(panics);
}

/// A folder of the hub's layout: configuration, preprocessing and weights that are damaged by turns.
#[test]
fn damaged_model_folders() {
    let mut panics = Vec::new();
    for case in [
        "models/vit_layer_scale",
        "resnet/odd_image",
        "hftext/roberta_mean",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(fixture(&format!("{case}.json"))).unwrap()).unwrap();
        let hub = serde_json::json!({
            "model_cfg": json["model_cfg"],
            "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"},
        });
        let config = dir.path().join("open_clip_config.json");
        fs::write(&config, hub.to_string()).unwrap();
        let options = CreateOptions {
            cache_dir: Some(dir.path().join("cache")),
            ..CreateOptions::default()
        };
        let create = |folder: &Path| {
            factory::create(
                &format!("local-dir:{}", folder.display()),
                None,
                &device(),
                &options,
            )
        };
        let weights = dir.path().join("open_clip_model.safetensors");
        let bare = dir.path().join("bare.json");
        fs::write(&bare, json["model_cfg"].to_string()).unwrap();
        let made = factory::create(bare.to_str().unwrap(), None, &device(), &options).unwrap();
        made.save(&weights).unwrap();
        create(dir.path()).unwrap();
        for (file, other) in [(&config, &weights), (&weights, &config)] {
            let read = |path: &Path| drop(create(path.parent().unwrap()));
            let name = file.file_name().unwrap().to_str().unwrap();
            panics.extend(read_all(
                name,
                &fs::read(file).unwrap(),
                std::slice::from_ref(other),
                read,
            ));
        }
    }
    none(panics);
}

struct Everything;

impl Sink for Everything {
    fn jump(&mut self, _: usize) -> usize {
        0
    }

    fn push(&mut self, _: Item) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

#[test]
fn damaged_lists_and_shards() {
    let csv = "filepath\ttitle\n\"a \"\"b\"\"\"\ta dog\nb.png\t\"two\nlines\"\n";
    let mut panics = read_all("a.csv", csv.as_bytes(), &[], |path| {
        if let Ok(csv) = Csv::open(path, &CsvFormat::default()) {
            let _ = csv.pass(&Order::sequential(), 0, &mut Everything);
        }
    });
    let shard = tar(&[
        ("a.jpg", b"picture"),
        ("a.txt", b"a dog"),
        ("b.png", b"picture"),
        ("b.json", b"{\"caption\": 1}"),
    ]);
    panics.extend(read_all("a.tar", &shard, &[], |path| {
        let shards = Shards::list(vec![path.to_path_buf()]);
        let tar =
            openclip_data::source::tar::source(shards, false, ShuffleSize::default()).unwrap();
        let _ = tar.pass(&Order::sequential(), 0, &mut Everything);
    }));
    let prompts = "{\"classes\": [\"cat\", \"dog\"], \"templates\": [\"a {}\", \"the {c}\"]}";
    panics.extend(read_all("prompts.json", prompts.as_bytes(), &[], |path| {
        if let Ok(prompts) = Prompts::read(path) {
            (0..=prompts.classes.len()).for_each(|class| drop(prompts.of_class(class)));
        }
    }));
    none(panics);
}
