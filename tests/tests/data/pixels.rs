//! Decoding and preprocessing against Pillow and torchvision (`parity/export_pixels.py`).

use std::collections::BTreeMap;
use std::path::Path;

use openclip_data::error::DataError;
use openclip_data::image::color::{Jitter, adjust, grayscale};
use openclip_data::image::{
    Augmentation, EvalTransform, Limits, Mode, Picture, TrainTransform, decode,
};
use openclip_model::config::{Interpolation, PreprocessConfig, ResizeMode};
use rand::SeedableRng;
use rand::rngs::StdRng;
use safetensors::SafeTensors;

fn fixture() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/data/pixels.safetensors"))
        .unwrap()
}

fn picture(tensors: &SafeTensors<'_>, name: &str) -> Picture {
    decode(
        tensors.tensor(&format!("file/{name}")).unwrap().data(),
        Limits::default(),
    )
    .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn difference(found: &[u8], expected: &[u8]) -> u8 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap_or(0)
}

fn eval_transform(mode: &str, filter: &str, size: &str) -> EvalTransform {
    let config = PreprocessConfig {
        resize_mode: match mode {
            "shortest" => ResizeMode::Shortest,
            "longest" => ResizeMode::Longest,
            _ => ResizeMode::Squash,
        },
        interpolation: match filter {
            "bicubic" => Interpolation::Bicubic,
            _ => Interpolation::Bilinear,
        },
        ..PreprocessConfig::default()
    };
    let (height, width) = size.split_once('x').unwrap();
    EvalTransform::new(height.parse().unwrap(), width.parse().unwrap(), &config).unwrap()
}

#[test]
fn eval_transform_gives_pillows_pixels() {
    let bytes = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut worst: BTreeMap<String, u8> = BTreeMap::new();
    for name in tensors.names() {
        let parts: Vec<&str> = name.split('/').collect();
        let (source, transform) = match parts[..] {
            ["eval", source, mode, filter, size] => (source, eval_transform(mode, filter, size)),
            ["pilrgb", source] => (source, eval_transform("shortest", "bicubic", "32x32")),
            _ => continue,
        };
        let mut picture = picture(&tensors, source);
        if parts[0] == "pilrgb" {
            picture = picture.into_rgb();
            assert_eq!(picture.mode(), Mode::Rgb);
        }
        let expected = tensors.tensor(name).unwrap();
        let mut found = vec![77; expected.data().len()];
        transform.apply(&picture, &mut found).unwrap();
        let difference = difference(&found, expected.data());
        let entry = worst.entry(format!("{source} ({})", parts[0])).or_default();
        *entry = (*entry).max(difference);
    }
    assert!(worst.len() > 60, "the fixture is incomplete");
    println!("largest difference per picture: {worst:#?}");
    for (name, difference) in worst {
        // Pillow's arithmetic is integer arithmetic: nothing may differ.
        assert_eq!(difference, 0, "{name}: pixels differ by {difference}");
    }
}

#[test]
fn modes_are_those_of_pillow() {
    let bytes = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (name, mode) in [
        ("jpeg_420", Mode::Rgb),
        ("jpeg_grey", Mode::L),
        ("jpeg_cmyk", Mode::Cmyk),
        ("png_rgba", Mode::Rgba),
        ("png_la", Mode::La),
        ("png_palette", Mode::Palette),
        ("png_palette_4bit", Mode::Palette),
        ("png_16bit", Mode::I16),
        ("png_1bit", Mode::Bilevel),
        ("png_rgb16", Mode::Rgb),
        ("gif", Mode::Palette),
        ("webp_alpha", Mode::Rgba),
        ("pgm", Mode::L),
    ] {
        assert_eq!(picture(&tensors, name).mode(), mode, "{name}");
    }
}

#[test]
fn resized_crop_gives_pillows_pixels() {
    let bytes = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let picture = picture(&tensors, "jpeg_420");
    let transform = TrainTransform::new(41, 33, Augmentation::default()).unwrap();
    let mut checked = 0;
    for name in tensors.names() {
        let Some(region) = name.strip_prefix("crop/") else {
            continue;
        };
        let region: Vec<usize> = region
            .split('_')
            .map(|part| part.parse().unwrap())
            .collect();
        let [left, top, width, height] = region[..] else {
            panic!("{name}")
        };
        let mut found = vec![0; 3 * 41 * 33];
        transform
            .resized_crop(
                &picture,
                (left, top),
                (width, height),
                Interpolation::Bicubic,
                &mut found,
            )
            .unwrap();
        assert_eq!(
            difference(&found, tensors.tensor(name).unwrap().data()),
            0,
            "{name}"
        );
        checked += 1;
    }
    assert_eq!(checked, 4);
    let mut out = vec![0; 3 * 41 * 33];
    assert!(
        transform
            .resized_crop(
                &picture,
                (100, 0),
                (32, 10),
                Interpolation::Bicubic,
                &mut out
            )
            .is_err()
    );
}

/// Crops four times the picture's area never fit, which leaves torchvision's fallback: here, all of it.
#[test]
fn train_transform_without_choice_gives_pillows_pixels() {
    let bytes = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let picture = picture(&tensors, "png_exact");
    let expected = tensors
        .tensor("eval/png_exact/squash/bicubic/32x32")
        .unwrap();
    let augmentation = Augmentation {
        scale: (4.0, 4.0),
        ..Augmentation::default()
    };
    let transform = TrainTransform::new(32, 32, augmentation).unwrap();
    let mut found = vec![0; expected.data().len()];
    transform
        .apply(&picture, &mut StdRng::seed_from_u64(1), &mut found)
        .unwrap();
    assert_eq!(found, expected.data());
}

#[test]
fn train_transform_is_a_function_of_its_seed() {
    let bytes = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let picture = picture(&tensors, "jpeg_420");
    let augmentation = Augmentation {
        color_jitter: Some([0.4, 0.4, 0.4, 0.1]),
        color_jitter_prob: 0.8,
        gray_scale_prob: 0.2,
        ..Augmentation::default()
    };
    let transform = TrainTransform::new(32, 32, augmentation).unwrap();
    let view = |seed| {
        let mut out = vec![0; 3 * 32 * 32];
        transform
            .apply(&picture, &mut StdRng::seed_from_u64(seed), &mut out)
            .unwrap();
        out
    };
    assert_eq!(view(3), view(3));
    let distinct: std::collections::BTreeSet<_> = (0..20).map(view).collect();
    // The picture is wider than 4:3, so a crop that keeps nearly all of it rarely fits.
    assert!(distinct.len() > 15, "{} of 20 views differ", distinct.len());
}

#[test]
fn colour_operations_give_torchvisions_pixels() {
    let bytes = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor("jitter/none/0").unwrap().data().to_vec();
    let mut checked = 0;
    for name in tensors.names() {
        let parts: Vec<&str> = name.split('/').collect();
        let ["jitter", operation, factor] = parts[..] else {
            continue;
        };
        let factor: f64 = factor.parse().unwrap();
        let mut found = view.clone();
        match operation {
            "brightness" => adjust(&mut found, Jitter::Brightness(factor)),
            "contrast" => adjust(&mut found, Jitter::Contrast(factor)),
            "saturation" => adjust(&mut found, Jitter::Saturation(factor)),
            "hue" => adjust(&mut found, Jitter::Hue(factor)),
            "grayscale" => grayscale(&mut found),
            _ => continue,
        }
        let worst = difference(&found, tensors.tensor(name).unwrap().data());
        assert_eq!(worst, 0, "{name} differs by {worst}");
        checked += 1;
    }
    assert_eq!(checked, 25);
}

#[test]
fn damaged_pictures_are_errors() {
    let bytes = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let decode = |bytes: &[u8]| decode(bytes, Limits::default());
    assert!(matches!(decode(b""), Err(DataError::NotAPicture { .. })));
    assert!(matches!(
        decode(b"<html>404</html>"),
        Err(DataError::NotAPicture { .. })
    ));
    for name in [
        "jpeg_420",
        "jpeg_progressive",
        "png_rgb",
        "gif",
        "webp_lossy",
        "bmp_rgb",
        "tiff_rgb",
        "ppm",
    ] {
        let file = tensors
            .tensor(&format!("file/{name}"))
            .unwrap()
            .data()
            .to_vec();
        for length in [12, 40, file.len() / 2] {
            let result = decode(&file[..length.min(file.len() / 2)]);
            assert!(
                matches!(result, Err(DataError::Picture { .. })),
                "{name} cut at {length}"
            );
        }
        let small = Limits { max_pixels: 100 };
        let result = openclip_data::image::decode(&file, small);
        assert!(
            matches!(result, Err(DataError::PictureTooLarge { limit: 100, .. })),
            "{name}: {result:?}"
        );
    }
}

/// Whatever bytes are flipped, decoding ends with a picture or an error.
#[test]
fn no_bytes_make_decoding_panic() {
    let bytes = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let files: Vec<&str> = tensors
        .names()
        .into_iter()
        .filter(|n| n.starts_with("file/"))
        .collect();
    assert!(files.len() > 30);
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    for name in files {
        let original = tensors.tensor(name).unwrap().data();
        for _ in 0..20 {
            let mut file = original.to_vec();
            for _ in 0..4 {
                let at = next() % file.len();
                file[at] = next() as u8;
            }
            let _ = decode(
                &file,
                Limits {
                    max_pixels: 1_000_000,
                },
            );
        }
    }
}

#[test]
fn thin_pictures_are_transformed() {
    for (width, height) in [(1, 1), (1, 3000), (3000, 1), (2, 5)] {
        let picture = Picture::black(width, height);
        for mode in ["shortest", "longest", "squash"] {
            for size in ["32x32", "28x36"] {
                let transform = eval_transform(mode, "bicubic", size);
                let mut out = vec![1; 3 * transform.width() * transform.height()];
                transform.apply(&picture, &mut out).unwrap();
                assert!(out.iter().all(|&value| value == 0));
            }
        }
    }
}

#[test]
fn wrong_settings_are_errors() {
    let transform = eval_transform("squash", "bicubic", "8x8");
    let result = transform.apply(&Picture::black(4, 4), &mut [0; 10]);
    assert!(matches!(
        result,
        Err(DataError::BufferLength {
            expected: 192,
            found: 10
        })
    ));
    assert!(EvalTransform::new(0, 8, &PreprocessConfig::default()).is_err());
    let augmentation = Augmentation {
        color_jitter_prob: 0.5,
        ..Augmentation::default()
    };
    assert!(TrainTransform::new(8, 8, augmentation).is_err());
    let augmentation = Augmentation {
        scale: (0.9, 0.5),
        ..Augmentation::default()
    };
    assert!(TrainTransform::new(8, 8, augmentation).is_err());
}

/// Random pictures: the decoded pixels, the evaluation transform, and the crop of the training transform.
#[test]
#[ignore = "needs a file by parity/random_pixels.py, named by OPENCLIP_PIXELS"]
fn random_pictures_give_pillows_pixels() {
    let bytes = std::fs::read(std::env::var("OPENCLIP_PIXELS").unwrap()).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort();
    let mut failures = Vec::new();
    let mut worst: BTreeMap<String, (usize, u8)> = BTreeMap::new();
    let mut pictures = 0;
    for name in &names {
        let Some(source) = name.strip_prefix("file/") else {
            continue;
        };
        pictures += 1;
        let picture = match decode(tensors.tensor(name).unwrap().data(), Limits::default()) {
            Ok(picture) => picture,
            Err(error) => {
                failures.push(format!("{source}: {error}"));
                continue;
            }
        };
        let rgb = planes(&picture.clone().into_rgb());
        let mut compare = |key: &str, found: &[u8]| {
            let Ok(expected) = tensors.tensor(key) else {
                return;
            };
            let kind = source.split('_').next().unwrap();
            let difference = difference(found, expected.data());
            let entry = worst
                .entry(format!("{kind} {}", key.split('/').next().unwrap()))
                .or_default();
            *entry = (entry.0 + 1, entry.1.max(difference));
            if difference > 0 {
                failures.push(format!("{key}: {difference} ({:?})", picture.mode()));
            }
        };
        compare(&format!("pilrgb/{source}"), &rgb);
        let (eval, crop) = (format!("eval/{source}/"), format!("crop/{source}/"));
        for key in &names {
            if let Some(options) = key.strip_prefix(&eval) {
                let options: Vec<&str> = options.split('/').collect();
                let transform = eval_transform(options[0], options[1], options[2]);
                let mut found = vec![77; 3 * transform.width() * transform.height()];
                transform.apply(&picture, &mut found).unwrap();
                compare(key, &found);
            } else if let Some(options) = key.strip_prefix(&crop) {
                let numbers: Vec<usize> = options
                    .split(['_', '/', 'x'])
                    .map(|part| part.parse().unwrap())
                    .collect();
                let [left, top, width, height, out_height, out_width] = numbers[..] else {
                    panic!("{key}")
                };
                let transform =
                    TrainTransform::new(out_height, out_width, Augmentation::default()).unwrap();
                let mut found = vec![77; 3 * out_height * out_width];
                transform
                    .resized_crop(
                        &picture,
                        (left, top),
                        (width, height),
                        Interpolation::Bicubic,
                        &mut found,
                    )
                    .unwrap();
                compare(key, &found);
            }
        }
    }
    for (what, (count, worst)) in &worst {
        println!("{what}: {count} compared, largest difference {worst}");
    }
    assert!(pictures > 0);
    // Rare kinds of TIFF: CCITT group 3 is not read, JPEG strips are decoded by another library, and Pillow takes the
    // bytes of big-endian samples for little-endian ones while it filters.
    let rare = ["tiff_fax", "tiff_jpeg", "tiff_grey16be"];
    let serious: Vec<_> = failures
        .iter()
        .filter(|line| !rare.iter().any(|kind| line.contains(kind)))
        .collect();
    println!(
        "{} of {pictures} pictures' views differ at all:\n{failures:#?}",
        failures.len()
    );
    assert!(serious.is_empty(), "{serious:#?}");
}

/// What Pillow refuses is refused, what it reads is read. Bytes changed in the middle may be read differently.
#[test]
#[ignore = "needs a file by parity/random_pixels.py, named by OPENCLIP_PIXELS"]
fn damaged_pictures_are_refused_where_pillow_refuses() {
    let bytes = std::fs::read(std::env::var("OPENCLIP_PIXELS").unwrap()).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut lines = Vec::new();
    let mut counts = [0; 4];
    for name in tensors.names() {
        let Some(source) = name.strip_prefix("damaged/") else {
            continue;
        };
        let found = decode(tensors.tensor(name).unwrap().data(), Limits::default());
        let expected = tensors.tensor(&format!("pixels/{source}"));
        let line = match (found, expected) {
            (Err(_), Err(_)) => {
                counts[0] += 1;
                continue;
            }
            (Ok(picture), Ok(expected)) => {
                let found = planes(&picture.into_rgb());
                if found.len() == expected.data().len() && difference(&found, expected.data()) <= 1
                {
                    counts[1] += 1;
                    continue;
                }
                counts[3] += 1;
                format!("{source}: other pixels")
            }
            (Err(error), Ok(_)) => {
                counts[2] += 1;
                format!("{source}: read by Pillow, but {error}")
            }
            (Ok(_), Err(_)) => {
                counts[2] += 1;
                format!("{source}: refused by Pillow alone")
            }
        };
        lines.push(line);
    }
    let [refused, equal, apart, other] = counts;
    println!(
        "refused by both {refused}, equal {equal}, one of them refuses {apart}, other pixels {other}\n{lines:#?}"
    );
    assert!(refused + equal > 3 * (apart + other), "{lines:#?}");
}

fn planes(picture: &Picture) -> Vec<u8> {
    (0..3)
        .flat_map(|channel| picture.samples().iter().skip(channel).step_by(3).copied())
        .collect()
}
