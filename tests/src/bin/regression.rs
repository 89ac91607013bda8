//! Features that a list of models computed at one revision, compared with what they compute at another.
//!
//! At the one revision `regression --models RN50,ViT-B-32 --save DIR`, at the other `regression --check DIR`. Exit status: 0 all
//! are alike, 1 some are not or are missing, 2 usage.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use openclip_model::device;
use openclip_tests::regression::{self, Result, Subject, TOLERANCE};

/// Keeps what models compute at one revision, and compares it with what they compute at another
#[derive(Debug, Parser)]
#[command(name = "regression")]
struct Args {
    /// Built-in names, configurations FILE.json, local-dir:DIR or hf-hub:ORG/NAME [default with --check: all in DIR]
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        required_unless_present = "check"
    )]
    models: Vec<String>,
    /// Compute, and write DIR/MODEL.safetensors
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    save: Option<PathBuf>,
    /// Compute again what DIR/MODEL.safetensors holds
    #[arg(long, value_name = "DIR", conflicts_with_all = ["save", "pretrained", "seed", "batch_size"])]
    check: Option<PathBuf>,
    /// Weights: a file, a tag, or an https address [default: a folder's or repository's own, else initial ones]
    #[arg(long, value_name = "FILE|TAG|URL")]
    pretrained: Option<String>,
    /// Of initial weights, pictures and token ids
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Pictures and captions
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Where to compute: cpu, `cuda[:N]`, `rocm[:N]`, wgpu, vulkan, metal, tch, `tch:cuda[:N]` or auto
    #[arg(long, default_value = "auto")]
    device: String,
    /// Largest difference of one value; of features, which are of unit length
    #[arg(long, default_value_t = TOLERANCE)]
    tolerance: f32,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("regression: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well; prints a line for each model.
fn run(args: &Args) -> Result<bool> {
    let device = device::parse(&args.device)?;
    let mut fine = true;
    let mut report = |name: &str, outcome: Result<String>| {
        fine &= outcome.is_ok();
        let text = outcome.unwrap_or_else(|error| format!("FAILED: {error}"));
        println!("{name:<40} {text}");
    };
    if let Some(folder) = &args.check {
        for file in references(folder, &args.models)? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let outcome = match file.is_file() {
                true => regression::check(&file, &device, args.tolerance),
                false => Err(format!("{} is missing", file.display()).into()),
            };
            report(&name, outcome.map(|difference| format!("{difference:e}")));
        }
    } else if let Some(folder) = &args.save {
        for model in &args.models {
            let subject = Subject {
                model: model.clone(),
                pretrained: args.pretrained.clone(),
                seed: args.seed,
            };
            let outcome = regression::save(&subject, args.batch_size.into(), &device, folder);
            report(model, outcome.map(|file| file.display().to_string()));
        }
    }
    Ok(fine)
}

/// The files of these models, or all in the folder.
fn references(folder: &Path, models: &[String]) -> Result<Vec<PathBuf>> {
    let fault = |reason: &str| format!("{}: {reason}", folder.display());
    if !models.is_empty() {
        let files = models.iter().map(|model| regression::file(folder, model));
        return Ok(files.collect());
    }
    let mut files = Vec::new();
    for entry in folder
        .read_dir()
        .map_err(|error| fault(&error.to_string()))?
    {
        files.push(entry?.path());
    }
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "safetensors")
    });
    files.sort();
    match files.is_empty() {
        true => Err(fault("no references").into()),
        false => Ok(files),
    }
}
