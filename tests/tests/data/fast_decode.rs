//! Views of JPEGs of which no more is decoded than they show: the exact path's beside those of whole pictures, and `--fast-decode`
//! beside the exact path, the same views with nearly the same pixels.

use std::path::Path;

use openclip_data::error::DataError;
use openclip_data::image::{
    Augmentation, Decoding, Erasure, EvalTransform, Limits, TrainTransform, decode, eval_transform,
    train_transform,
};
use openclip_model::config::{PreprocessConfig, ResizeMode};
use rand::SeedableRng;
use rand::rngs::StdRng;
use safetensors::SafeTensors;

/// Largest difference of a sample over the photographs below; edges of saturated colours have it.
const LARGEST: u8 = 40;

fn files(name: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/data");
    let bytes = std::fs::read(path.join(name)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut files: Vec<_> = tensors
        .iter()
        .filter_map(|(name, file)| {
            Some((name.strip_prefix("file/")?.to_owned(), file.data().to_vec()))
        })
        .collect();
    files.sort();
    files
}

type View = Result<(Vec<u8>, Vec<Erasure>), DataError>;

fn view(file: &[u8], size: usize, fast: bool, augmentation: Augmentation, seed: u64) -> View {
    let decoding = Decoding {
        rgb_first: true,
        fast,
        limits: Limits::default(),
    };
    let transform = train_transform([size; 2], augmentation, decoding).unwrap();
    let mut out = vec![0; 3 * size * size];
    let erased = transform(file, &mut StdRng::seed_from_u64(seed), &mut out)?;
    Ok((out, erased))
}

/// The exact path has the pixels of the picture that is decoded as a whole.
#[test]
fn exact_views_are_those_of_whole_pictures() {
    for name in ["photographs.safetensors", "pixels.safetensors"] {
        for (name, file) in files(name) {
            let Ok(picture) = decode(&file, Limits::default()) else {
                continue;
            };
            for seed in 0..12 {
                let size = [224, 64, 9][seed as usize % 3];
                let augmentation = Augmentation {
                    scale: (0.02, 1.0),
                    ratio: (0.3, 3.0),
                    ..Augmentation::default()
                };
                let transform = TrainTransform::new(size, size, augmentation).unwrap();
                let mut whole = vec![0; 3 * size * size];
                let picture = picture.clone().into_rgb();
                let mut rng = StdRng::seed_from_u64(seed);
                transform.apply(&picture, &mut rng, &mut whole).unwrap();
                let (part, _) = view(&file, size, false, augmentation, seed).unwrap();
                assert!(part == whole, "{name} at {size}, seed {seed}");
            }
            for resize_mode in [
                ResizeMode::Shortest,
                ResizeMode::Longest,
                ResizeMode::Squash,
            ] {
                let config = PreprocessConfig {
                    resize_mode,
                    ..PreprocessConfig::default()
                };
                for size in [[224, 224], [40, 90], [400, 30]] {
                    let transform = EvalTransform::new(size[0], size[1], &config).unwrap();
                    let mut whole = vec![0; 3 * size[0] * size[1]];
                    transform.apply(&picture, &mut whole).unwrap();
                    let of_file = eval_transform(size, &config, false, Limits::default()).unwrap();
                    let mut part = vec![1; whole.len()];
                    of_file(&file, &mut StdRng::seed_from_u64(0), &mut part).unwrap();
                    assert!(part == whole, "{name} to {size:?} by {resize_mode:?}");
                }
            }
        }
    }
}

/// At full size, and at a half, a quarter and an eighth of it.
#[test]
fn photographs_differ_by_less_than_a_step() {
    for (scale, sizes) in [
        ((0.9, 1.0), &[224, 160, 112, 64, 32][..]),
        ((0.2, 1.0), &[224, 96]),
    ] {
        let augmentation = Augmentation {
            scale,
            ..Augmentation::default()
        };
        for &size in sizes {
            let (mut sum, mut count, mut largest) = (0, 0, 0);
            for (name, file) in files("photographs.safetensors") {
                let mut own = 0;
                for seed in 0..4 {
                    let (exact, _) = view(&file, size, false, augmentation, seed).unwrap();
                    let (fast, _) = view(&file, size, true, augmentation, seed).unwrap();
                    // Of grey at full size hardly a pixel is another.
                    assert!(
                        exact != fast || name == "grey",
                        "{name} took the exact path"
                    );
                    let apart = exact.iter().zip(&fast).map(|(a, b)| a.abs_diff(*b));
                    own += apart.clone().map(u64::from).sum::<u64>();
                    largest = largest.max(apart.max().unwrap());
                }
                let samples = 4 * 3 * (size * size) as u64;
                println!(
                    "{name} at {size}, cut {scale:?}: mean {}",
                    own as f64 / samples as f64
                );
                sum += own;
                count += samples;
            }
            let mean = sum as f64 / count as f64;
            println!("all at {size}, cut {scale:?}: mean {mean}, largest {largest}");
            assert!(mean <= 1.0, "{mean} at {size}");
            assert!(largest <= LARGEST, "{largest} at {size}");
        }
    }
}

/// Colours, greyness and noise are those of the exact path's view.
#[test]
fn what_is_drawn_is_the_same() {
    let augmentation = Augmentation {
        scale: (0.3, 1.0),
        gray_scale_prob: 0.5,
        erase_prob: 0.5,
        ..Augmentation::default()
    };
    let (_, file) = files("photographs.safetensors").swap_remove(0);
    let mut grey = 0;
    for seed in 0..20 {
        let (exact, erased) = view(&file, 64, false, augmentation, seed).unwrap();
        let (fast, also) = view(&file, 64, true, augmentation, seed).unwrap();
        assert_eq!(erased, also);
        let is_grey = |view: &[u8]| view[..64 * 64] == view[2 * 64 * 64..];
        assert_eq!(is_grey(&exact), is_grey(&fast));
        grey += usize::from(is_grey(&fast));
    }
    assert!((2..18).contains(&grey), "{grey}");
}

/// Progressive files, CMYK, and what is no JPEG.
#[test]
fn other_files_take_the_exact_path() {
    let mut same = 0;
    for (name, file) in files("pixels.safetensors") {
        let augmentation = Augmentation::default();
        let exact = view(&file, 32, false, augmentation, 1).unwrap();
        let fast = view(&file, 32, true, augmentation, 1).unwrap();
        let is_part =
            name.starts_with("jpeg") && !["jpeg_progressive", "jpeg_cmyk"].contains(&name.as_str());
        if !is_part {
            assert_eq!(exact, fast, "{name}");
            same += 1;
        }
    }
    assert!(same > 20, "{same}");
}

/// What the view needs and is not there is an error, and no bytes make a panic.
#[test]
fn damaged_files_are_errors() {
    let augmentation = Augmentation::default();
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    for (name, file) in files("photographs.safetensors") {
        let mut cut = file[..file.len() / 2].to_vec();
        assert!(view(&cut, 64, true, augmentation, 0).is_err(), "{name}");
        cut.extend([0xff, 0xd9]);
        assert!(
            view(&cut, 64, true, augmentation, 0).is_err(),
            "{name} with an end"
        );
        for seed in 0..30 {
            let mut file = file.clone();
            for _ in 0..3 {
                // The header and the first blocks, where most is decided, and anywhere.
                let span = if seed % 2 == 0 { 1000 } else { file.len() };
                let at = next() % span;
                file[at] = next() as u8;
            }
            if let Err(error) = view(&file, 64, true, augmentation, seed) {
                assert!(!error.to_string().contains("gave up"), "{name}: {error}");
            }
        }
    }
}
