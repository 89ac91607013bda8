//! `convert`: a model's weights in another format.

use std::fs;
use std::path::Path;

use openclip_model::factory::{self, Loaded, RECORD_EXTENSION};
use openclip_model::files::atomic;
use openclip_model::registry::{self, HUB_CONFIG};

use super::session::Session;
use crate::args::convert::ConvertArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::Output;

/// Weights in a hub folder.
const HUB_WEIGHTS: &str = "open_clip_model.safetensors";

/// Files of a tokenizer that a hub folder may hold.
const TOKENIZER_FILES: [&str; 7] = [
    "tokenizer.json",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
];

/// Writes `--output`.
pub fn run(args: &ConvertArgs) -> Result {
    let output = &args.output;
    let extension = output.extension().and_then(|extension| extension.to_str());
    let is_folder = extension.is_none() || output.is_dir() || ends_in_separator(output);
    if !is_folder && !["safetensors", RECORD_EXTENSION].contains(&extension.unwrap_or_default()) {
        return Err(CliError::Usage(format!(
            "--output {}: expected a name ending in .safetensors or .{RECORD_EXTENSION}, or a folder",
            output.display()
        )));
    }
    let session = Session::open(&args.model, &args.preprocess, args.seed)?;
    if let Some(parent) = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent).map_err(CliError::file(parent))?;
    }
    match extension {
        _ if is_folder => write_folder(output, &session, &args.model.model)?,
        Some(RECORD_EXTENSION) => session.loaded.save_record(output)?,
        _ => session.loaded.save(output)?,
    }
    let mut out = Output::stdout();
    out.line(output.display())?;
    out.finish()?;
    Ok(Outcome::Done)
}

fn ends_in_separator(path: &Path) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .last()
        .is_some_and(|last| std::path::is_separator(char::from(*last)))
}

/// The hub's layout: configuration, a card, the tokenizer's files where the model came with any, and the weights – last, so
/// that a folder with weights is whole.
fn write_folder(dir: &Path, session: &Session, model: &str) -> Result<()> {
    fs::create_dir_all(dir).map_err(CliError::file(dir))?;
    let loaded = &session.loaded;
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        atomic::write(&path, text).map_err(CliError::file(&path))
    };
    let hub = factory::hub_config(&loaded.config, &loaded.preprocess);
    write(HUB_CONFIG, format!("{hub:#}\n"))?;
    write("README.md", card(loaded))?;
    for name in TOKENIZER_FILES {
        let from = registry::local_dir(model).map(|from| from.join(name));
        if let Some(from) = from.filter(|from| from.is_file()) {
            let to = dir.join(name);
            if fs::canonicalize(&from).ok() != fs::canonicalize(&to).ok() {
                let copied = fs::read(&from).and_then(|bytes| atomic::write(&to, bytes));
                copied.map_err(CliError::file(&to))?;
            }
        }
    }
    Ok(loaded.save(&dir.join(HUB_WEIGHTS))?)
}

/// The page that the hub shows, with the header it searches by.
fn card(loaded: &Loaded) -> String {
    let (height, width) = loaded.config.vision_cfg.image_size.dims();
    let name = loaded.name.trim_start_matches("local-dir:");
    format!(
        "\
---
tags:
- clip
library_name: open_clip
pipeline_tag: zero-shot-image-classification
---
# {name}

A contrastive image-text model in the format of [OpenCLIP](https://github.com/mlfoundations/open_clip): pictures of
{height}x{width} pixels and captions of up to {} tokens become vectors of {} numbers.

```sh
openclip classify --model local-dir:. --image cat.jpg --text 'a cat' 'a dog'
```

```python
model, _, preprocess = open_clip.create_model_and_transforms('local-dir:.')
```
",
        loaded.config.text_cfg.context_length, loaded.config.embed_dim,
    )
}
