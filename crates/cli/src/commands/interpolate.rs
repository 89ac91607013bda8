//! `interpolate`: weights between two models, and how they measure.

use std::path::{Path, PathBuf};

use openclip_data::image::Limits;
use openclip_data::loader::default_workers;
use openclip_eval::head::Head;
use openclip_eval::validation::{Validation, ZeroShot};
use openclip_eval::zero_shot::Prompts;
use openclip_train::finetune::interpolate::{Interpolation, Point};

use super::session::Session;
use crate::args::finetune::InterpolateArgs;
use crate::args::model::{ModelArgs, PreprocessArgs};
use crate::error::{CliError, Outcome, Result};
use crate::output::Output;

/// Goes from one model to the other.
pub fn run(args: &InterpolateArgs) -> Result {
    check(args)?;
    let open = |weights: &str| {
        let model = ModelArgs {
            pretrained: Some(weights.to_owned()),
            ..args.model.clone()
        };
        Session::open(&model, &PreprocessArgs::default(), 0)
    };
    let (first, second) = (open(&args.first)?, open(&args.second)?);
    let tokenizer = first.tokenizer()?;
    let encoder = first.encoder();
    let head = |weights: &str| Head::beside(Path::new(weights), &encoder.device);
    let found = (head(&args.first)?, head(&args.second)?);
    let heads = Interpolation::heads(&encoder, tokenizer.as_ref(), found, args.second.as_ref())?;
    let zero_shot = sets(args, heads.as_ref())?;
    let validation = Validation {
        pairs: None,
        num_pairs: None,
        zero_shot,
        batch_size: args.batch_size,
        workers: args.workers.unwrap_or_else(default_workers),
        limits: Limits::new(args.pictures.max_image_pixels),
        show_progress: false,
    };
    let interpolation = Interpolation {
        first: first.loaded,
        second: second.loaded,
        heads,
        alphas: args.alpha.clone(),
        writes_weights: !args.no_weights,
    };
    let mut out = Output::stdout();
    let mut told = Ok(());
    let tell = |point: &Point| {
        if told.is_ok() {
            told = out.line_now(line(point));
        }
    };
    let output = args.output.as_deref();
    interpolation.run(encoder, &tokenizer, &validation, output, tell)?;
    told?;
    out.finish()?;
    Ok(Outcome::Done)
}

fn check(args: &InterpolateArgs) -> Result<()> {
    if args.output.is_none() && args.eval.is_empty() {
        return Err(CliError::Usage(
            "nothing to do: give --output to write weights, or --eval to measure them".into(),
        ));
    }
    if args.model.pretrained.is_some() {
        return Err(CliError::Usage(
            "--pretrained: the weights are the two that are given without a flag".into(),
        ));
    }
    match args.alpha.iter().find(|alpha| !alpha.is_finite()) {
        Some(alpha) => Err(CliError::Usage(format!(
            "--alpha {alpha}: expected a number"
        ))),
        None => Ok(()),
    }
}

/// What is measured: pictures of the classifier's classes, or of those that prompts name.
fn sets(args: &InterpolateArgs, heads: Option<&[Head; 2]>) -> Result<Vec<ZeroShot>> {
    let prompts = match (heads, &args.zeroshot_prompts) {
        (Some([_, head]), _) => Some(head.prompts.clone()),
        (None, Some(path)) => Some(Prompts::read(path)?),
        (None, None) => None,
    };
    let mut sets: Vec<ZeroShot> = Vec::new();
    for root in &args.eval {
        let mut name = set_name(root);
        if sets.iter().any(|other| other.name == name) {
            name = root.display().to_string();
        }
        sets.push(ZeroShot::open(&name, root, prompts.clone())?);
    }
    Ok(sets)
}

/// The last part of a path, with that before it where it is a split's name.
fn set_name(root: &Path) -> String {
    let parts: Vec<_> = root
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    match parts.as_slice() {
        [.., set, split] if ["train", "val", "test", "validation"].contains(&split.as_ref()) => {
            format!("{set}-{split}")
        }
        [.., last] => last.to_string(),
        [] => PathBuf::from(root).display().to_string(),
    }
}

fn line(point: &Point) -> String {
    let metrics = point
        .metrics
        .iter()
        .map(|(name, value)| format!("  {name} {value:.4}"));
    let folder = point.folder.iter();
    let folder = folder.map(|folder| format!("  {}", folder.display()));
    format!(
        "alpha {:<5}{}",
        point.alpha,
        metrics.chain(folder).collect::<String>()
    )
}
