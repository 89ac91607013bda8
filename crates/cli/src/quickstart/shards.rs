//! Pictures and captions as webdataset shards.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jpeg_encoder::{ColorType, Encoder};
use openclip_eval::progress::Progress;
use openclip_model::files::atomic::{self, AtomicFile};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::draw::{self, SIDE};
use super::scene::{Scene, Split};
use crate::error::{CliError, Result};
use crate::sheet::write_png;

/// Shards to train on.
pub(super) const TRAIN_SHARDS: usize = 8;

/// Pictures in a shard to train on.
const SHARD: usize = 1024;

/// How often every held-out scene is drawn; each time fills a shard of its own.
pub(super) const ROUNDS: usize = 4;

/// JPEG quality; above 90 colours keep the full resolution.
const QUALITY: u8 = 92;

/// One captioned picture.
pub(super) struct Example {
    pub(super) scene: Scene,
    pub(super) caption: String,
    pub(super) jpeg: Vec<u8>,
}

/// Where the shards lie, and the held-out pictures.
pub(super) struct Dataset {
    /// Shards to train on, as `--train-data` takes them.
    pub(super) train: String,
    /// One shard with every held-out scene once, as `--val-data` takes it.
    pub(super) val: String,
    /// Every held-out scene once per round, in the same order.
    pub(super) held_out: Vec<Vec<Example>>,
}

/// Draws everything and writes `shards` times `train-NNNNNN.tar`, `val-NNNNNN.tar` and `sizes.json` into `dir`.
///
/// The files depend on the arguments alone.
pub(super) fn write(dir: &Path, split: &Split, seed: u64, shards: usize) -> Result<Dataset> {
    fs::create_dir_all(dir).map_err(CliError::file(dir))?;
    let scenes: Vec<Scene> = split
        .held_out
        .iter()
        .flat_map(|&what| Scene::every(what))
        .collect();
    let first_held_out = shards * SHARD;
    let total = first_held_out + ROUNDS * scenes.len();
    let progress = Progress::new("draw", Some(total as u64), "pictures");
    let mut sizes = Map::new();

    for shard in 0..shards {
        let examples: Vec<Example> = (shard * SHARD..(shard + 1) * SHARD)
            .into_par_iter()
            .map(|index| {
                let rng = &mut StdRng::seed_from_u64(mix(seed, index));
                let scene = Scene::random(split.trained[index % split.trained.len()], rng);
                let caption = scene.caption(rng);
                progress.inc(1);
                example(scene, caption, rng)
            })
            .collect();
        write_shard(
            dir,
            &format!("train-{shard:06}.tar"),
            shard * SHARD,
            &examples,
            &mut sizes,
        )?;
    }

    let mut held_out = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let first = first_held_out + round * scenes.len();
        let examples: Vec<Example> = scenes
            .par_iter()
            .enumerate()
            .map(|(k, scene)| {
                let rng = &mut StdRng::seed_from_u64(mix(seed, first + k));
                progress.inc(1);
                example(*scene, scene.full_caption(), rng)
            })
            .collect();
        write_shard(
            dir,
            &format!("val-{round:06}.tar"),
            first,
            &examples,
            &mut sizes,
        )?;
        held_out.push(examples);
    }

    let path = dir.join("sizes.json");
    let text = format!("{:#}\n", Value::Object(sizes));
    atomic::write(&path, text).map_err(CliError::file(&path))?;
    progress.finish();
    let pattern = |name: &str| dir.join(name).to_string_lossy().into_owned();
    Ok(Dataset {
        train: pattern(&format!("train-{{000000..{:06}}}.tar", shards - 1)),
        val: pattern("val-000000.tar"),
        held_out,
    })
}

/// Writes some held-out pictures, one of each combination, as single PNG files named for what they show.
pub(super) fn write_pictures(dir: &Path, examples: &[&Example]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).map_err(CliError::file(dir))?;
    let mut paths = Vec::with_capacity(examples.len());
    for example in examples {
        let what = example.scene.what.to_string();
        let name = what
            .split_once(' ')
            .map_or(what.as_str(), |(_, name)| name)
            .replace(' ', "_");
        let path = dir.join(format!("{name}.png"));
        let picture = openclip_data::image::decode(&example.jpeg, Default::default())?.into_rgb();
        write_png(&path, SIDE, SIDE, picture.samples())?;
        paths.push(path);
    }
    Ok(paths)
}

fn example(scene: Scene, caption: String, rng: &mut StdRng) -> Example {
    let samples = draw::picture(&scene, rng);
    Example {
        scene,
        caption,
        jpeg: jpeg(&samples),
    }
}

#[expect(
    clippy::expect_used,
    reason = "fails for wrong sizes alone, and the size is a constant"
)]
fn jpeg(samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = Encoder::new(&mut bytes, QUALITY);
    encoder
        .encode(samples, SIDE as u16, SIDE as u16, ColorType::Rgb)
        .expect("samples of a picture");
    bytes
}

/// Writes `NNNNNN.jpg` and `NNNNNN.txt` of every example, numbered from `first`.
fn write_shard(
    dir: &Path,
    name: &str,
    first: usize,
    examples: &[Example],
    sizes: &mut Map<String, Value>,
) -> Result<()> {
    let path = dir.join(name);
    let pack = || -> io::Result<()> {
        let mut tar = tar::Builder::new(AtomicFile::create(&path)?);
        for (index, example) in (first..).zip(examples) {
            append(&mut tar, &format!("{index:06}.jpg"), &example.jpeg)?;
            append(
                &mut tar,
                &format!("{index:06}.txt"),
                example.caption.as_bytes(),
            )?;
        }
        tar.into_inner()?.finish()
    };
    pack().map_err(CliError::file(&path))?;
    sizes.insert(name.to_owned(), examples.len().into());
    Ok(())
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes)
}

/// A seed of its own for every picture (SplitMix64's increment).
fn mix(seed: u64, index: usize) -> u64 {
    seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn shards_are_complete_and_repeatable() {
        let split = Split::new(&mut StdRng::seed_from_u64(3));
        let write_all = || {
            let dir = tempfile::tempdir().unwrap();
            let data = write(&dir.path().join("data"), &split, 3, 2).unwrap();
            (dir, data)
        };
        let (dir, data) = write_all();
        assert!(
            data.train.ends_with("train-{000000..000001}.tar"),
            "{}",
            data.train
        );
        assert!(data.held_out.iter().all(|round| round.len() == 128));

        let shards = openclip_data::source::shards::Shards::expand(&data.train, None).unwrap();
        assert_eq!(shards.num_samples().unwrap(), Some(2048));

        let read = |dir: &tempfile::TempDir, name: &str| {
            fs::read(dir.path().join("data").join(name)).unwrap()
        };
        let bytes = read(&dir, "val-000001.tar");
        let mut tar = tar::Archive::new(&bytes[..]);
        let names: Vec<PathBuf> = tar
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(names.len(), 256);
        assert_eq!(
            names[..2],
            [PathBuf::from("002176.jpg"), PathBuf::from("002176.txt")]
        );

        let again = write_all().0;
        for name in [
            "train-000000.tar",
            "train-000001.tar",
            "val-000003.tar",
            "sizes.json",
        ] {
            assert!(read(&dir, name) == read(&again, name), "{name}");
        }
    }
}
