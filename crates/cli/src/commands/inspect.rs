//! `models` and `info`.

use burn::tensor::Device;
use openclip_model::config::PreprocessConfig;
use openclip_model::files::folder;
use openclip_model::pretrained::{self, Pretrained};
use openclip_model::profile::Profile;
use openclip_model::registry::{self, Weights};
use openclip_model::{Clip, device};
use serde_json::json;

use super::session::Session;
use crate::args::inspect::{InfoArgs, ModelsArgs};
use crate::error::{Outcome, Result};
use crate::output::Output;

/// Lists the built-in models, or the published weights.
pub fn models(args: &ModelsArgs) -> Result {
    match args.pretrained {
        true => tags(args),
        false => profiles(args),
    }
}

fn profiles(args: &ModelsArgs) -> Result {
    // Parameters are described, not allocated, so the device does not matter.
    let device = device::parse("cpu").unwrap_or_else(|_| Device::default());
    let mut profiles = Vec::new();
    for name in registry::names() {
        let config = registry::builtin(name)?;
        profiles.push(Profile::of(name, &config, &Clip::new(&config, &device)?));
    }
    let mut out = Output::stdout();
    if args.json.json {
        out.json(&profiles)?;
        return Ok(Outcome::Done);
    }
    out.line(format_args!(
        "{:<33} {:>10} {:>9} {:>8} {:>6} {:>8} {:>5}",
        "model", "parameters", "picture", "context", "embed", "GFLOPs", "tags"
    ))?;
    for p in profiles {
        out.line(format_args!(
            "{:<33} {:>8.1} M {:>9} {:>8} {:>6} {:>8} {:>5}",
            p.name,
            p.parameters as f64 / 1e6,
            format!("{}x{}", p.image_size[0], p.image_size[1]),
            p.context_length,
            p.embed_dim,
            p.flops.map_or("-".into(), |flops| giga(flops.total)),
            pretrained::of(&p.name).count(),
        ))?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}

fn tags(args: &ModelsArgs) -> Result {
    let known = pretrained::all();
    let mut out = Output::stdout();
    if args.json.json {
        out.json(&known)?;
        return Ok(Outcome::Done);
    }
    out.line(format_args!(
        "{:<33} {:<36} {:<8} {:<9} weights",
        "model", "tag", "resize", "activation"
    ))?;
    for entry in known {
        out.line(format_args!(
            "{:<33} {:<36} {:<8} {:<10} {}",
            entry.model,
            entry.tag,
            name_of(&entry.preprocess.resize_mode),
            activation(entry.quick_gelu),
            place(entry),
        ))?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}

/// Repository and file.
fn place(entry: &Pretrained) -> String {
    match entry.file() {
        pretrained::WEIGHTS => entry.repository().to_owned(),
        file => format!("{}/{file}", entry.repository()),
    }
}

/// Describes one model; with weights, after they are loaded.
pub fn info(args: &InfoArgs) -> Result {
    let source = registry::resolve(&args.model.model, args.model.cache_dir.as_deref())?;
    // A repository's weights may be large, and are not asked for.
    let has_file = match &source.weights {
        Some(Weights::Folder(folder)) => folder::weights(folder).is_ok(),
        Some(Weights::Hub(_)) | None => false,
    };
    let (profile, preprocess) = if args.model.pretrained.is_some() || has_file {
        let loaded = Session::open(&args.model, &args.preprocess, 0)?.loaded;
        (
            Profile::of(&loaded.name, &loaded.config, &loaded.model),
            loaded.preprocess,
        )
    } else {
        let device = device::parse(&args.model.device)?;
        let config = args.model.options(0).apply(source.config);
        let model = Clip::new(&config, &device)?;
        let preprocess = args
            .preprocess
            .apply(source.preprocess.unwrap_or_default())?;
        (Profile::of(&source.name, &config, &model), preprocess)
    };
    let tags: Vec<_> = pretrained::of(&args.model.model).collect();
    let mut out = Output::stdout();
    if args.json.json {
        let mut value = json!(profile);
        value["preprocess"] = json!(preprocess);
        value["pretrained"] = json!(tags);
        value["model_profile"] = columns(&profile);
        out.json(&value)?;
        return Ok(Outcome::Done);
    }
    for (label, value) in describe(&profile, &preprocess) {
        out.line(format_args!("{label:<14} {value}"))?;
    }
    for (index, entry) in tags.iter().enumerate() {
        let label = if index == 0 { "pretrained" } else { "" };
        out.line(format_args!(
            "{label:<14} {:<36} {}",
            entry.tag,
            place(entry)
        ))?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}

/// Lines for people.
fn describe(profile: &Profile, preprocess: &PreprocessConfig) -> Vec<(&'static str, String)> {
    let millions = |count: usize| format!("{:.2} M", count as f64 / 1e6);
    let [height, width] = profile.image_size;
    let patch = profile
        .patch_size
        .map_or(String::new(), |side| format!(", patches of {side}x{side}"));
    let mut lines = vec![
        ("model", profile.name.clone()),
        ("parameters", millions(profile.parameters)),
        (
            "image tower",
            format!(
                "{}, width {}, {height}x{width} pixels{patch}",
                millions(profile.image_parameters),
                profile.image_width
            ),
        ),
        (
            "text tower",
            format!(
                "{}, width {}, {} tokens of {}",
                millions(profile.text_parameters),
                profile.text_width,
                profile.context_length,
                profile.vocab_size
            ),
        ),
        ("embedding", format!("{} values", profile.embed_dim)),
        ("activation", activation(profile.quick_gelu).to_owned()),
    ];
    if let Some(flops) = profile.flops {
        let text = format!(
            "{}, picture {}, caption {}",
            giga(flops.total),
            giga(flops.image),
            giga(flops.text)
        );
        lines.push(("GFLOPs", text));
    }
    lines.push((
        "preprocessing",
        format!(
            "mean {:?}, std {:?}, {}, {}",
            preprocess.mean,
            preprocess.std,
            name_of(&preprocess.interpolation),
            name_of(&preprocess.resize_mode)
        ),
    ));
    lines
}

/// OpenCLIP's `docs/model_profile.csv`: one value per column, counts in millions and 10⁹ operations, rounded as there.
fn columns(profile: &Profile) -> serde_json::Value {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let millions = |count: usize| rounded(count as f64 / 1e6);
    let giga = |part: Option<u64>| part.map(|flops| rounded(flops as f64 / 1e9));
    let flops = profile.flops;
    json!({
        "model": profile.name,
        "image_size": profile.image_size[0],
        "image_width": profile.image_width,
        "text_width": profile.text_width,
        "embed_dim": profile.embed_dim,
        "mparams": millions(profile.parameters),
        "image_mparams": millions(profile.image_parameters),
        "text_mparams": millions(profile.text_parameters),
        "gflops": giga(flops.map(|flops| flops.total)),
        "image_gflops": giga(flops.map(|flops| flops.image)),
        "text_gflops": giga(flops.map(|flops| flops.text)),
    })
}

fn giga(flops: u64) -> String {
    format!("{:.2}", flops as f64 / 1e9)
}

fn activation(quick_gelu: bool) -> &'static str {
    if quick_gelu { "QuickGELU" } else { "GELU" }
}

/// A setting's name in OpenCLIP's files.
fn name_of(setting: &impl serde::Serialize) -> String {
    json!(setting).as_str().unwrap_or_default().to_owned()
}
