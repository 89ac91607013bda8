//! Zero-shot accuracy and retrieval under OpenCLIP's names.

use openclip_data::source::open::open;
use openclip_eval::validation::{Due, Validation, ZeroShot};
use openclip_eval::zero_shot::{Prompts, read_classes, read_templates};
use serde_json::{Map, Value, json};

use crate::args::eval::{EvalArgs, ZeroShotArgs};
use crate::commands::session::Session;
use crate::error::{CliError, Outcome, Result};
use crate::output::Output;

/// Prints the metrics under OpenCLIP's names.
pub fn run(args: &EvalArgs) -> Result {
    let mut options = args.format.options(args.data.val_num_samples);
    options.keys.needs_caption = true;
    let synthetic = (args.format.dataset_type == "synthetic").then_some("");
    let pairs = args.data.val_data.as_deref().or(synthetic);
    let pairs = pairs.map(|data| open(data, &options)).transpose()?;
    let zero_shot = match (&args.data.imagenet_val, &args.zero_shot.zeroshot) {
        (Some(_), Some(_)) => {
            return Err(CliError::Usage(
                "--imagenet-val and --zeroshot: give one of the two".into(),
            ));
        }
        (Some(root), None) => Some(ZeroShot::open("imagenet-zeroshot-val", root, None)?),
        (None, Some(root)) => {
            let prompts = prompts(&args.zero_shot, root)?;
            Some(ZeroShot::open("zeroshot", root, Some(prompts))?)
        }
        (None, None) => None,
    };
    let imagenet_v2 = args.data.imagenet_v2.as_deref();
    let imagenet_v2 = imagenet_v2.map(|root| ZeroShot::imagenet_v2(root, None));
    let zero_shot: Vec<_> = zero_shot
        .into_iter()
        .chain(imagenet_v2.transpose()?)
        .collect();
    if pairs.is_none() && zero_shot.is_empty() {
        return Err(CliError::Usage(
            "nothing to measure: give --dataset, --val-data, --imagenet-val, --imagenet-v2 or --zeroshot"
                .into(),
        ));
    }
    let [model] = &args.models.each()?[..] else {
        return Err(CliError::Usage(
            "several models are measured with --dataset alone".into(),
        ));
    };
    let session = Session::open(model, &args.preprocess, 0)?;
    let validation = Validation {
        pairs,
        num_pairs: args.data.val_num_samples,
        zero_shot,
        batch_size: args.loader.batch_size,
        workers: args.loader.workers,
        limits: args.pictures.limits(),
        show_progress: true,
    };
    let tokenizer = session.tokenizer()?;
    let measured = validation.run(&session.encoder(), &tokenizer, Due::ALL)?;
    let mut out = Output::stdout();
    if args.json.json {
        let object: Map<String, Value> = measured
            .metrics
            .into_iter()
            .map(|(name, value)| (name, json!(value)))
            .collect();
        out.json(&object)?;
    } else {
        for (name, value) in measured.metrics {
            let line = format!("{name:<28} {value:<10.4} {}", rule(&name));
            out.line(line.trim_end())?;
        }
        out.finish()?;
    }
    Ok(Outcome::of(session.is_finite && measured.is_finite))
}

/// What counts as right in a metric of retrieval.
fn rule(name: &str) -> &'static str {
    let rules = [
        ("image_to_text_", "OpenCLIP: the caption of the same row"),
        ("text_to_image_", "OpenCLIP: the picture of the same row"),
        (
            "text_retrieval_",
            "CLIP_benchmark: any caption of the picture",
        ),
        ("image_retrieval_", "CLIP_benchmark: the caption's picture"),
    ];
    let known = rules.iter().find(|(prefix, _)| name.starts_with(prefix));
    known.map_or("", |(_, rule)| rule)
}

/// The files' classes and templates; else the folders' names and ImageNet's templates.
fn prompts(args: &ZeroShotArgs, root: &std::path::Path) -> Result<Prompts> {
    let templates = args.templates.as_deref().map(read_templates).transpose()?;
    Ok(Prompts {
        classes: read_classes(args.classes.as_deref().unwrap_or(root))?,
        templates: match templates {
            Some(templates) => templates,
            None => Prompts::imagenet()?.templates,
        },
        simple_templates: Vec::new(),
    })
}
