//! `openclip quickstart`: a small CLIP from drawn pictures, start to finish, in minutes and without a download.
//!
//! * [`scene`] – what a picture shows, and the sentences that say so
//! * [`draw`] – scenes to pixels
//! * [`shards`] – pictures and captions as webdataset shards
//! * [`measure`] – zero-shot classification and retrieval of combinations that training never saw
//! * [`contact_sheet`] – pictures with the captions that the model finds likeliest
//! * [`summary`] – the report on stdout

mod contact_sheet;
mod draw;
mod measure;
mod scene;
mod shards;
mod summary;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::FloatDType;
use openclip_data::tokenizer;
use openclip_eval::Encoder;
use openclip_model::device;
use openclip_model::factory::{self, CreateOptions};
use openclip_model::files::atomic;
use openclip_train::{Precision, TrainConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::error::{CliError, Outcome, Result};
use crate::output::{self, Output};
use contact_sheet::Card;
use measure::Measured;
use scene::{Combination, Split};
use shards::{Dataset, Example};

/// The network, in OpenCLIP's schema.
const MODEL: &str = include_str!("../../configs/quickstart-model.json");

/// What the command line may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where everything is written.
    pub output: PathBuf,
    /// Passes over the drawn pictures.
    pub epochs: u64,
    /// A `--device` name.
    pub device: String,
    /// Decides which combinations are held out, the pictures, the initial weights and their order.
    pub seed: u64,
}

impl Options {
    /// Passes that take a little over two minutes on two cores.
    pub const EPOCHS: u64 = 4;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            output: PathBuf::from("quickstart"),
            epochs: Self::EPOCHS,
            device: "auto".to_owned(),
            seed: 0,
        }
    }
}

/// Draws, trains, measures, and prints what came of it on stdout.
///
/// Leaves `data/`, `pictures/`, `model.json`, `contact_sheet.png` and the run folder in [`Options::output`]; a run of an
/// earlier call stays beside the one of this call.
///
/// # Errors
/// When a file cannot be written, or training or evaluation fails.
pub fn run(options: &Options) -> Result<Outcome> {
    let dir = &options.output;
    // Before any work: the name of a device that is not there is the likeliest mistake.
    let device = device::parse(&options.device)?;
    fs::create_dir_all(dir).map_err(CliError::file(dir))?;
    let model = dir.join("model.json");
    atomic::write(&model, MODEL).map_err(CliError::file(&model))?;

    let split = Split::new(&mut StdRng::seed_from_u64(options.seed));
    let data = shards::write(
        &dir.join("data"),
        &split,
        options.seed,
        shards::TRAIN_SHARDS,
    )?;
    let shown = one_of_each(&data.held_out, &split);
    let pictures = shards::write_pictures(&dir.join("pictures"), &shown)?;

    let trained = openclip_train::train(config(options, &model, &data))?;
    let no_checkpoint = || CliError::Content {
        path: trained.run.clone(),
        reason: "training left no checkpoint here".to_owned(),
    };
    let checkpoint = trained.checkpoint.clone().ok_or_else(no_checkpoint)?;
    if trained.stopped {
        output::note(format!(
            "stopped; the checkpoint is {}",
            checkpoint.display()
        ));
        return Ok(Outcome::Stopped);
    }

    let name = format!("local-dir:{}", checkpoint.display());
    let loaded = factory::create(&name, None, &device, &CreateOptions::default())?;
    let tokenizer = tokenizer::for_model(&loaded.config, Some(&checkpoint))?;
    let (height, width) = loaded.config.vision_cfg.image_size.dims();
    let size = [height, width];
    let encoder = Encoder::new(
        &loaded.model,
        loaded.preprocess,
        size,
        &device,
        FloatDType::F32,
    );
    let measured = measure::measure(&encoder, tokenizer.as_ref(), &data.held_out, &split)?;

    let sheet = dir.join("contact_sheet.png");
    write_sheet(
        &sheet,
        &measured,
        measure::read(&encoder, tokenizer.as_ref(), &shown)?,
    )?;
    let files = summary::Files {
        sheet: &sheet,
        run: &trained.run,
        checkpoint: &checkpoint,
        pictures: &pictures,
    };
    let names: Vec<String> = shown
        .iter()
        .map(|example| example.scene.what.to_string())
        .collect();
    let mut out = Output::stdout();
    for line in summary::lines(&measured, &files, &names) {
        out.line(line)?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}

/// Flags of `openclip train` for a small model on few pictures.
fn config(options: &Options, model: &Path, data: &Dataset) -> TrainConfig {
    TrainConfig {
        train_data: Some(data.train.clone()),
        val_data: Some(data.val.clone()),
        dataset_type: "webdataset".to_owned(),
        model: model.to_string_lossy().into_owned(),
        logs: options.output.clone(),
        name: Some(free_name(&options.output)),
        device: options.device.clone(),
        seed: options.seed,
        epochs: options.epochs,
        precision: Some(Precision::Fp32),
        batch_size: 32,
        workers: 1,
        // Above 1e-3 the model learns colours and little else.
        lr: 7e-4,
        beta1: Some(0.9),
        beta2: Some(0.98),
        eps: Some(1e-6),
        // The pictures vary enough as they are drawn; a crop would move a shape out of its corner.
        aug_scale: [1.0, 1.0],
        warmup: 60,
        grad_clip_norm: Some(1.0),
        val_frequency: 1,
        save_frequency: options.epochs.max(1),
        log_every_n_steps: 50,
        report_to: "tensorboard".to_owned(),
        ..TrainConfig::default()
    }
}

/// `run`, or the first of `run-2`, `run-3`, … that is not there.
fn free_name(dir: &Path) -> String {
    let mut names = std::iter::once("run".to_owned()).chain((2_u64..).map(|k| format!("run-{k}")));
    names
        .find(|name| !dir.join(name).exists())
        .unwrap_or_default()
}

/// A picture of every held-out combination, in turns from one scene after the other.
fn one_of_each<'a>(rounds: &'a [Vec<Example>], split: &Split) -> Vec<&'a Example> {
    let of = |(k, what): (usize, &Combination)| {
        let examples = rounds
            .first()?
            .iter()
            .filter(|example| example.scene.what == *what);
        examples.cycle().nth(3 * k)
    };
    split.held_out.iter().enumerate().filter_map(of).collect()
}

fn write_sheet(path: &Path, measured: &Measured, cards: Vec<Card>) -> Result<()> {
    let lines = [
        format!(
            "One picture of each of the {} held-out combinations of colour and shape,",
            measured.held_out
        ),
        format!(
            "read among all {} captions. Right on {} of {} such pictures: {:.1} %; guessing gets {:.1} %.",
            measured.classes,
            measured.right,
            measured.pictures,
            100.0 * measured.accuracy(),
            100.0 / measured.classes as f64
        ),
    ];
    let lines = [lines[0].as_str(), lines[1].as_str()];
    let sheet = contact_sheet::render("Combinations never seen in training", lines, &cards);
    sheet.write(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use openclip_model::config::ModelConfig;

    use super::scene::Scene;
    use super::*;

    #[test]
    fn every_caption_fits_the_model() {
        let config: ModelConfig = serde_json::from_str(MODEL).unwrap();
        let mut roomy = config.clone();
        roomy.text_cfg.context_length = 77;
        let tokenizer = tokenizer::for_model(&roomy, None).unwrap();
        let rng = &mut StdRng::seed_from_u64(4);
        for what in Combination::all().into_iter().cycle().take(5000) {
            let caption = Scene::random(what, rng).caption(rng);
            let length = tokenizer
                .tokenize(&caption)
                .unwrap()
                .iter()
                .filter(|&&id| id != 0)
                .count();
            assert!(
                length <= config.text_cfg.context_length,
                "{caption}: {length}"
            );
        }
    }

    #[test]
    fn a_card_for_each_combination_and_no_two_alike() {
        let split = Split::new(&mut StdRng::seed_from_u64(0));
        let example = |scene: Scene| Example {
            scene,
            caption: scene.full_caption(),
            jpeg: Vec::new(),
        };
        let round: Vec<Example> = split
            .held_out
            .iter()
            .flat_map(|&what| Scene::every(what))
            .map(example)
            .collect();
        let rounds = [round];
        let shown = one_of_each(&rounds, &split);
        assert_eq!(shown.len(), split.held_out.len());
        assert!(
            shown
                .iter()
                .zip(&split.held_out)
                .all(|(example, what)| example.scene.what == *what)
        );
        let corners: Vec<_> = shown.iter().map(|example| example.scene.corner).collect();
        assert!(
            scene::Corner::ALL
                .iter()
                .all(|corner| corners.contains(corner))
        );
    }

    #[test]
    fn runs_do_not_overwrite_each_other() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(free_name(dir.path()), "run");
        fs::create_dir_all(dir.path().join("run")).unwrap();
        fs::create_dir_all(dir.path().join("run-2")).unwrap();
        assert_eq!(free_name(dir.path()), "run-3");
    }
}
