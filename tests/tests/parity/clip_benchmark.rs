//! CLIP_benchmark's tasks (see `tests/parity/export_clip_benchmark.py`).

use std::fs;
use std::io::Read;
use std::path::Path;

use burn::tensor::FloatDType;
use flate2::read::GzDecoder;
use openclip_data::image::Limits;
use openclip_data::source::open::OpenOptions;
use openclip_data::tokenizer;
use openclip_eval::Encoder;
use openclip_eval::captioning::{Bleu, Pair, cider, ptb, rouge};
use openclip_eval::dataset::{Dataset, OpenSet, open};
use openclip_eval::task::probe::{ProbeOptions, ProbeSets};
use openclip_eval::task::{Evaluator, Loading, Report, Task, TaskOptions};
use openclip_model::factory;
use openclip_tests::{device, fixture, json};
use serde_json::Value;

/// Shares of counts are the same in either width; upstream's mean of f32 is rounded.
const EXACT: f64 = 1e-6;
const NAMES: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];
const TEMPLATES: &str = "a photo of the number {c}.\n{c}\nthe digit {c}, written by hand\n";

fn unpacked(name: &str) -> Vec<u8> {
    let file = fs::File::open(fixture("clip_benchmark").join(name)).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A folder with the sets, and the model.
struct Room {
    dir: tempfile::TempDir,
    evaluator: Evaluator,
    expected: Value,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let weights = root.join("model.safetensors");
        fs::write(&weights, unpacked("model.safetensors.gz")).unwrap();
        let config = fixture("clip_benchmark/model.json");
        let loaded = factory::create(
            config.to_str().unwrap(),
            weights.to_str(),
            &device(),
            &Default::default(),
        )
        .unwrap();
        let loading = Loading {
            batch_size: 16,
            workers: 2,
            limits: Limits::default(),
            show_progress: false,
        };
        let encoder = Encoder::of(&loaded, &device(), FloatDType::F32);
        let tokenizer = tokenizer::for_model(&loaded.config, None).unwrap();
        tar::Archive::new(&unpacked("wds.tar.gz")[..])
            .unpack(root.join("wds"))
            .unwrap();
        write_digits(root);
        fs::create_dir_all(root.join("hub/data")).unwrap();
        let rows = root.join("hub/data/test-00000-of-00001.parquet");
        fs::copy(fixture("clip_benchmark/digits.parquet"), rows).unwrap();
        let templates = root.join("hub/zeroshot_classification_templates.txt");
        fs::write(templates, TEMPLATES).unwrap();
        Self {
            evaluator: Evaluator::new(encoder, tokenizer, loading),
            expected: json("clip_benchmark/expected.json"),
            dir,
        }
    }

    fn open(&self, place: &str, split: &str) -> Dataset {
        let place = self.dir.path().join(place);
        open(&OpenSet {
            place: place.to_str().unwrap(),
            split,
            options: &OpenOptions::default(),
        })
        .unwrap()
    }

    fn run(&self, task: Task, place: &str) -> Report {
        let options = TaskOptions {
            recall_k: vec![1, 5, 10],
            ..TaskOptions::default()
        };
        let set = self.open(place, "test");
        self.evaluator.run(task, place, &set, &options).unwrap()
    }
}

/// One folder per class, named by the digits, as PGM files.
fn write_digits(root: &Path) {
    let bytes = unpacked("digits.safetensors.gz");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for part in ["train", "test"] {
        let images = tensors.tensor(&format!("{part}/images")).unwrap().data();
        let labels = tensors.tensor(&format!("{part}/labels")).unwrap().data();
        for (at, (image, label)) in images.chunks(64).zip(labels.chunks(8)).enumerate() {
            let label = label[0];
            for set in ["digits", "few"] {
                if set == "few" && label >= 4 {
                    continue;
                }
                let folder = root.join(set).join(part).join(label.to_string());
                fs::create_dir_all(&folder).unwrap();
                let file = [b"P5\n8 8\n255\n", image].concat();
                fs::write(folder.join(format!("{at:04}.pgm")), file).unwrap();
            }
        }
    }
    for (set, classes) in [("digits", 10), ("few", 4)] {
        fs::write(
            root.join(set).join("classnames.txt"),
            NAMES[..classes].join("\n"),
        )
        .unwrap();
        let templates = root.join(set).join("zeroshot_classification_templates.txt");
        fs::write(templates, TEMPLATES).unwrap();
    }
}

/// The metrics are `expected`'s, and no other.
fn same(report: &Report, expected: &Value, place: &str) {
    let expected = expected.as_object().unwrap();
    assert!(report.is_finite);
    assert!(
        report.metrics.keys().eq(expected.keys()),
        "{place}: {:?}",
        report.metrics
    );
    for (name, value) in expected {
        let found = &report.metrics[name];
        match (found.as_f64(), value.as_f64()) {
            (Some(found), Some(value)) => {
                assert!(
                    (found - value).abs() <= EXACT,
                    "{place} {name}: {found}, not {value}"
                );
            }
            _ => assert_eq!(found, value, "{place} {name}"),
        }
    }
}

#[test]
fn zero_shot_tasks_give_its_numbers() {
    let room = Room::new();
    for set in ["digits", "few"] {
        let report = room.run(Task::Classification, set);
        same(&report, &room.expected["folder"][set], set);
    }
    for (set, task) in [
        ("digits", Task::Classification),
        ("shapes", Task::Classification),
        ("scenes", Task::Retrieval),
        ("choices", Task::Selection),
    ] {
        let report = room.run(task, &format!("wds/{set}"));
        same(&report, &room.expected["wds"][set], set);
    }
    // The same pictures in a table, which has the names of the classes.
    let report = room.run(Task::Classification, "hub");
    same(&report, &room.expected["wds"]["digits"], "hub");
}

/// The mean of some metric over linear probes with seeds from 0.
fn mean(room: &Room, name: &str, seeds: usize, options: &ProbeOptions) -> f64 {
    let train = room.open("digits", "train");
    let test = room.open("digits", "test");
    let sets = ProbeSets {
        train: &train,
        val: None,
        test: &test,
    };
    let features = Some((room.dir.path().join("features"), "model".to_owned()));
    let of_seed = |seed| {
        let options = ProbeOptions {
            seed: seed as u64,
            features: features.clone(),
            ..options.clone()
        };
        let report = room.evaluator.probe("digits", &sets, &options).unwrap();
        report.metrics[name].as_f64().unwrap()
    };
    (0..seeds).map(of_seed).sum::<f64>() / seeds as f64
}

#[test]
fn linear_probes_give_its_accuracy() {
    let room = Room::new();
    let searched = ProbeOptions {
        val_proportion: Some(0.2),
        ..ProbeOptions::default()
    };
    let few = ProbeOptions {
        fewshot_k: Some(8),
        ..ProbeOptions::default()
    };
    // Eight pictures a class make a probe vary by points from one draw to another, and the mean of twenty by half of one.
    for (kind, options, tolerance) in [("search", searched, 0.005), ("few", few, 0.01)] {
        let theirs = room.expected["probe"][kind].as_array().unwrap();
        let metric = "lp_acc1";
        let wanted: f64 = theirs
            .iter()
            .map(|probe| probe[metric].as_f64().unwrap())
            .sum();
        let wanted = wanted / theirs.len() as f64;
        let found = mean(&room, metric, theirs.len(), &options);
        println!("{kind}: {found} here, {wanted} there");
        assert!(
            (found - wanted).abs() <= tolerance,
            "{kind}: {found}, not {wanted}"
        );
    }
}

#[test]
fn captions_have_its_words_and_scores() {
    let expected = json("clip_benchmark/captions.json");
    let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let (mut pairs, mut rows) = (Vec::new(), Vec::new());
    for row in expected["pairs"].as_array().unwrap() {
        let written = row["written"].as_str().unwrap();
        let right = texts(&row["right"]);
        let captions = std::iter::once(written).chain(right.iter().map(String::as_str));
        for (caption, tokens) in captions.zip(texts(&row["tokens"])) {
            assert_eq!(ptb::words(caption).join(" "), tokens, "{caption}");
        }
        pairs.push(Pair::new(written, &right));
        rows.push(row);
    }
    let close = |found: f64, wanted: &Value, what: &str| {
        let wanted = wanted.as_f64().unwrap();
        assert!(
            (found - wanted).abs() <= EXACT,
            "{what}: {found}, not {wanted}"
        );
    };
    let ciders = cider(&pairs);
    let rouges: Vec<f64> = pairs.iter().map(rouge).collect();
    for ((row, cider), rouge) in rows.iter().zip(&ciders).zip(&rouges) {
        let written = row["written"].as_str().unwrap();
        close(*cider, &row["cider"], written);
        close(*rouge, &row["rouge"], written);
    }
    let mut all = Bleu::default();
    pairs.iter().for_each(|pair| all.add(&Bleu::of(pair), 1));
    let scores = &expected["scores"];
    for (n, score) in all.scores().into_iter().enumerate() {
        close(score, &scores[format!("Bleu_{}", n + 1)], "BLEU");
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    close(mean(&rouges), &scores["ROUGE_L"], "ROUGE-L");
    close(mean(&ciders), &scores["CIDEr"], "CIDEr");
}
