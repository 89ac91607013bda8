//! `push`: a model into a repository of the hub.

use std::fs;
use std::path::{Path, PathBuf};

use openclip_model::hub::Upload;
use openclip_model::registry;

use super::card::{self, Card};
use super::hub_folder::{self, HubFolder};
use super::session::Session;
use crate::args::push::PushArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, note, warn};

/// Writes the folder and uploads it.
pub fn run(args: &PushArgs) -> Result {
    let upload = Upload {
        repository: args.repo_id.clone(),
        revision: args.revision.clone(),
        message: args.commit_message.clone(),
        private: args.private,
    };
    upload
        .check()
        .map_err(|error| CliError::Usage(error.to_string()))?;
    refuse_random_weights(args)?;
    let card = match &args.card {
        Some(path) => Page::Own(fs::read_to_string(path).map_err(CliError::file(path))?),
        None => Page::Made(card(args)?),
    };
    let session = Session::open(&args.model, &args.preprocess, 0)?;
    if !session.is_finite {
        return Err(CliError::Content {
            path: session.loaded.name.into(),
            reason: "weights that are not finite are not published".into(),
        });
    }
    let mut out = Output::stdout();
    let (dir, temporary) = folder(args)?;
    write(args, &session, card, &dir)?;
    if args.dry_run {
        out.line(dir.display())?;
        out.finish()?;
        return Ok(Outcome::Done);
    }
    let sent = upload.send(&dir).map_err(|source| CliError::Push {
        source,
        folder: temporary.map_or_else(|| dir.clone(), tempfile::TempDir::keep),
    })?;
    for name in &sent.kept {
        note(format!("{}: its {name} stays as it is", args.repo_id));
    }
    out.line(&sent.url)?;
    out.finish()?;
    Ok(Outcome::Done)
}

/// A page that was given or one that is made.
enum Page {
    Own(String),
    Made(Card),
}

/// Nobody means to publish a model that has learned nothing.
fn refuse_random_weights(args: &PushArgs) -> Result<()> {
    let model = &args.model;
    let names_weights = model
        .pretrained
        .as_deref()
        .is_some_and(|tag| !tag.is_empty());
    if names_weights
        || registry::resolve(&model.model, model.cache_dir.as_deref())?
            .weights
            .is_some()
    {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "--pretrained: {} has no weights of its own to publish",
        model.model
    )))
}

fn card(args: &PushArgs) -> Result<Card> {
    if args.license.is_none() {
        warn("--license is not given: the model's page will name none");
    }
    let name = args.repo_id.rsplit('/').next().unwrap_or_default();
    Ok(Card {
        repository: Some(args.repo_id.clone()),
        license: args.license.clone(),
        tags: args.tags.clone(),
        results: card::results(&args.results)?,
        ..Card::new(name)
    })
}

/// Where the folder is written; a temporary one goes away with what comes back beside it.
fn folder(args: &PushArgs) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let name = args.repo_id.rsplit('/').next().unwrap_or_default();
    match (&args.output, args.dry_run) {
        (Some(dir), _) => Ok((dir.clone(), None)),
        (None, true) => Ok((PathBuf::from(name), None)),
        (None, false) => {
            let root = std::env::temp_dir();
            let mut builder = tempfile::Builder::new();
            let dir = builder.prefix(&format!("openclip-{name}-")).tempdir();
            let dir = dir.map_err(CliError::file(&root))?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}

fn write(args: &PushArgs, session: &Session, card: Page, dir: &Path) -> Result<()> {
    let loaded = &session.loaded;
    let mut config = loaded.config.clone();
    let tokenizer = session.tokenizer_files()?;
    if args.hf_tokenizer_self {
        config.text_cfg.hf_tokenizer_name = Some(args.repo_id.clone());
    }
    let folder = HubFolder {
        loaded,
        config: &config,
        card: match card {
            Page::Own(text) => text,
            Page::Made(card) => card.text(loaded),
        },
        tokenizer,
        pickle: args.bin,
    };
    hub_folder::write(dir, &folder)
}
