//! The training transform against timm's (`parity/export_augmentation.py`): view by view, and by the distribution of what it draws.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, FloatDType};
use openclip_data::image::color::{Jitter, adjust};
use openclip_data::image::{
    Augmentation, Decoding, Limits, TrainTransform, View, decode, train_transform,
};
use openclip_data::loader::{Batch, Loader, LoaderOptions};
use openclip_data::source::Order;
use openclip_data::source::files::Files;
use openclip_model::config::{Interpolation, PreprocessConfig};
use openclip_model::pixels;
use rand::SeedableRng;
use rand::rngs::StdRng;
use safetensors::SafeTensors;
use serde_json::Value;

/// Size of the picture `jpeg_420`.
const PICTURE: (usize, usize) = (131, 97);

fn data(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/data");
    std::fs::read(folder.join(name)).unwrap()
}

fn recorded() -> Value {
    serde_json::from_slice(&data("augmentation.json")).unwrap()
}

fn photo() -> Vec<u8> {
    let pixels = data("pixels.safetensors");
    let tensors = SafeTensors::deserialize(&pixels).unwrap();
    tensors.tensor("file/jpeg_420").unwrap().data().to_vec()
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let (values, _) = tensors.tensor(name).unwrap().data().as_chunks::<4>();
    values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

fn whole<const N: usize>(value: &Value) -> [usize; N] {
    let numbers = value.as_array().unwrap().iter();
    let numbers: Vec<_> = numbers.map(|n| n.as_u64().unwrap() as usize).collect();
    numbers.try_into().unwrap()
}

/// The same crop, filter, colours and noise give the same normalised pixels.
#[test]
fn timms_views_are_replayed() {
    let views = data("augmentation.safetensors");
    let tensors = SafeTensors::deserialize(&views).unwrap();
    let picture = decode(&photo(), Limits::default()).unwrap();
    let transform = TrainTransform::new(24, 20, Augmentation::default()).unwrap();
    let (mut changed, mut erased) = (0, 0);
    for (case, view) in recorded()["cases"].as_array().unwrap().iter().enumerate() {
        let [left, top, width, height] = whole(&view["crop"]);
        let filter = match view["filter"].as_str().unwrap() {
            "bilinear" => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        };
        let mut planes = vec![0; 3 * 24 * 20];
        transform
            .resized_crop(&picture, (left, top), (width, height), filter, &mut planes)
            .unwrap();
        for step in view["jitter"].as_array().unwrap() {
            let factor = step[1].as_f64().unwrap();
            let jitter = match step[0].as_str().unwrap() {
                "brightness" => Jitter::Brightness(factor),
                "contrast" => Jitter::Contrast(factor),
                "saturation" => Jitter::Saturation(factor),
                _ => Jitter::Hue(factor),
            };
            adjust(&mut planes, jitter);
            changed += 1;
        }
        let preprocess = PreprocessConfig::default();
        let device = Device::default();
        let planes = pixels::planes(planes, [1, 3, 24, 20], &device);
        let mut images = pixels::normalise(planes, &preprocess, FloatDType::F32);
        for (i, rectangle) in view["erased"].as_array().unwrap().iter().enumerate() {
            let [left, top, width, height] = whole(rectangle);
            let noise = floats(&tensors, &format!("noise/{case}/{i}"));
            images = pixels::write_over(images, 0, [top, left], [height, width], noise);
            erased += 1;
        }
        let found = images.into_data().try_to_vec::<f32>().unwrap();
        let expected = floats(&tensors, &format!("out/{case}"));
        let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let apart = apart.fold(0.0, f32::max);
        // A step of one byte is 0.014.
        assert!(apart < 1e-5, "view {case}: {apart} apart");
    }
    assert!(changed > 8 && erased > 4, "{changed} {erased}");
}

/// The share of `values` below `limit`, and of those that are not above it.
fn shares(values: &[f64], limit: f64) -> (f64, f64) {
    let share = |count: usize| count as f64 / values.len() as f64;
    let slack = 1e-5;
    (
        share(values.iter().filter(|&&v| v < limit - slack).count()),
        share(values.iter().filter(|&&v| v <= limit + slack).count()),
    )
}

#[test]
fn what_is_drawn_is_distributed_as_timms() {
    const DRAWS: usize = 20_000;
    let augmentation = Augmentation {
        scale: (0.08, 1.0),
        interpolation: Interpolation::Random,
        color_jitter: Some([0.4, 0.4, 0.4, 0.1]),
        color_jitter_prob: 1.0,
        erase_prob: 0.25,
        erase_count: 3,
        ..Augmentation::default()
    };
    let transform = TrainTransform::new(32, 48, augmentation).unwrap();
    let mut numbers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut choices: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for seed in 0..DRAWS as u64 {
        let view: View = transform.draw(PICTURE, &mut StdRng::seed_from_u64(seed));
        let mut note = |what: &str, place: [usize; 4]| {
            for (key, value) in ["left", "top", "width", "height"].iter().zip(place) {
                let values = numbers.entry(format!("{what} {key}")).or_default();
                values.push(value as f64);
            }
        };
        note("crop", [view.left, view.top, view.width, view.height]);
        for erased in &view.erased {
            note(
                "erased",
                [erased.left, erased.top, erased.width, erased.height],
            );
        }
        let named = view.jitter.iter().map(|jitter| match *jitter {
            Jitter::Brightness(factor) => ("brightness", factor),
            Jitter::Contrast(factor) => ("contrast", factor),
            Jitter::Saturation(factor) => ("saturation", factor),
            Jitter::Hue(turns) => ("hue", turns),
        });
        let named: Vec<_> = named.collect();
        for (name, factor) in &named {
            numbers.entry((*name).to_owned()).or_default().push(*factor);
        }
        let filter = format!("{:?}", view.interpolation).to_lowercase();
        for choice in [
            ("filter", filter),
            ("first colour operation", named[0].0.to_owned()),
            ("erased rectangles", view.erased.len().to_string()),
        ] {
            *choices.entry(choice).or_default() += 1;
        }
    }
    let recorded = recorded();
    let quantiles = recorded["quantiles"].as_object().unwrap();
    assert_eq!(quantiles.len(), numbers.len());
    for (name, expected) in quantiles {
        let expected = expected.as_array().unwrap();
        for (k, limit) in expected.iter().enumerate() {
            let at = k as f64 / (expected.len() - 1) as f64;
            let (below, upto) = shares(&numbers[name], limit.as_f64().unwrap());
            assert!(
                below - 0.02 <= at && at <= upto + 0.02,
                "{name}: {below} to {upto} lie below timm's quantile {at}, {limit}"
            );
        }
    }
    let frequencies = recorded["frequencies"].as_object().unwrap();
    let mut compared = 0;
    for (what, shares) in frequencies {
        for (choice, expected) in shares.as_object().unwrap() {
            let found = choices.get(&(what.as_str(), choice.clone()));
            let found = *found.unwrap_or(&0) as f64 / DRAWS as f64;
            let expected = expected.as_f64().unwrap();
            assert!(
                (found - expected).abs() < 0.015,
                "{what} {choice}: {found}, timm {expected}"
            );
            compared += 1;
        }
    }
    assert_eq!(compared, choices.len());
}

/// Every part of the augmentation is drawn by the sample's place.
#[test]
fn workers_change_no_view() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (0..24)
        .map(|i| folder.path().join(format!("{i}.jpg")))
        .collect();
    for file in &files {
        std::fs::write(file, photo()).unwrap();
    }
    let augmentation = Augmentation {
        scale: (0.2, 1.0),
        interpolation: Interpolation::Random,
        color_jitter: Some([0.4, 0.4, 0.4, 0.1]),
        color_jitter_prob: 0.5,
        gray_scale_prob: 0.3,
        erase_prob: 0.5,
        erase_count: 2,
        ..Augmentation::default()
    };
    let decoding = Decoding {
        rgb_first: true,
        fast: false,
        limits: Limits::default(),
    };
    let batches = |workers| {
        let transform = train_transform([30, 40], augmentation, decoding).unwrap();
        let options = LoaderOptions {
            workers,
            ..LoaderOptions::new(8, [30, 40], Order::training(5, 0))
        };
        let source = Arc::new(Files::list(files.clone()));
        let loader = Loader::start(source, transform, None, &options).unwrap();
        let untimed = |batch: Batch| Batch {
            timing: Default::default(),
            ..batch
        };
        loader
            .map(|batch| untimed(batch.unwrap()))
            .collect::<Vec<_>>()
    };
    let one = batches(1);
    assert_eq!(one.len(), 3);
    assert_eq!(one, batches(3));
    let erased: Vec<_> = one.iter().flat_map(|batch| &batch.erased).collect();
    assert!(erased.len() > 5, "{}", erased.len());
    for (sample, erased) in erased {
        assert!(
            *sample < 8 && erased.left + erased.width <= 40 && erased.top + erased.height <= 30
        );
        assert_eq!(erased.noise.len(), 3 * erased.width * erased.height);
    }
}
