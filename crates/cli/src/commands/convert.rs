//! `convert`: a model's weights in another format.

use std::fs;
use std::path::Path;

use openclip_model::factory::RECORD_EXTENSION;
use openclip_model::onnx::{self, Part};

use super::card::Card;
use super::hub_folder::{self, HubFolder};
use super::session::Session;
use crate::args::convert::ConvertArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, warn};

/// Extension of files for ONNX's runtimes.
const ONNX: &str = "onnx";

/// Extensions of files that `torch.load` reads.
const TORCH: [&str; 3] = ["pt", "pth", "bin"];

/// Writes `--output`.
pub fn run(args: &ConvertArgs) -> Result {
    let output = &args.output;
    let extension = output.extension().and_then(|extension| extension.to_str());
    let is_folder = extension.is_none() || output.is_dir() || ends_in_separator(output);
    let is_known = |extension| {
        ["safetensors", ONNX, RECORD_EXTENSION].contains(&extension) || TORCH.contains(&extension)
    };
    if !is_folder && !extension.is_some_and(is_known) {
        return Err(CliError::Usage(format!(
            "--output {}: expected a name ending in .safetensors, .pt, .onnx or .{RECORD_EXTENSION}, or a folder",
            output.display()
        )));
    }
    if args.part.is_some() && (is_folder || extension != Some(ONNX)) {
        return Err(CliError::Usage(
            "--part: only an .onnx file can have one tower alone".into(),
        ));
    }
    let session = Session::open(&args.model, &args.preprocess, args.seed)?;
    if let Some(parent) = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent).map_err(CliError::file(parent))?;
    }
    let mut files = vec![output.clone()];
    match extension {
        _ if is_folder => write_folder(output, &session)?,
        Some(ONNX) => {
            let part = args.part.map_or(Part::Both, Part::from);
            files = onnx::export(&session.loaded, part, output, onnx::MOST_WITHIN)?;
        }
        Some(RECORD_EXTENSION) => session.loaded.save_record(output)?,
        Some(extension) if TORCH.contains(&extension) => session.loaded.save_torch(output)?,
        _ => session.loaded.save(output)?,
    }
    let mut out = Output::stdout();
    for file in files {
        out.line(file.display())?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}

/// The hub's layout. A tokenizer that is not at hand does without its files.
fn write_folder(dir: &Path, session: &Session) -> Result<()> {
    let tokenizer = session.tokenizer_files().unwrap_or_else(|error| {
        warn(format!(
            "{}: written without the tokenizer's files: {}",
            dir.display(),
            error.message()
        ));
        Vec::new()
    });
    let loaded = &session.loaded;
    let name = loaded.name.trim_start_matches("local-dir:");
    hub_folder::write(
        dir,
        &HubFolder {
            loaded,
            config: &loaded.config,
            card: Card::new(name).text(loaded),
            tokenizer,
            pickle: false,
        },
    )
}

fn ends_in_separator(path: &Path) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .last()
        .is_some_and(|last| std::path::is_separator(char::from(*last)))
}
