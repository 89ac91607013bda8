//! Pictures that are named on the command line, one after the other: files, folders of them, and `-` for standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use openclip_data::image::{Limits, decode};
use openclip_data::source::MAX_MEMBER_BYTES;
use openclip_data::source::files::Files;
use openclip_eval::Encoder;
use serde::Serialize;

use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, Records, error, note, warn};

/// The name of standard input.
const STDIN: &str = "-";

/// Files to look at, and whether all that was asked for is among them.
pub struct Pictures {
    paths: Vec<PathBuf>,
    limits: Limits,
    complete: bool,
}

impl Pictures {
    /// Puts folders' pictures in the place of the folders. What is not there is told at once, before a model is loaded.
    pub fn find(asked: &[PathBuf], limits: Limits) -> Self {
        let mut found = Self {
            paths: Vec::new(),
            limits,
            complete: true,
        };
        for path in asked {
            match expand(path) {
                Ok(paths) => found.paths.extend(paths),
                Err(fault) => found.fail(&fault),
            }
        }
        found
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The end of a command that has nothing to look at, all of which was told.
    pub fn none(self, json: bool) -> Result {
        Records::stdout(json).finish()?;
        Ok(Outcome::Flawed)
    }

    /// Decodes one picture at a time, asks `answer` about its planes, and writes what it says as JSON or by `lines`. A picture
    /// that cannot be read is an error on stderr and the next one follows; the result says whether there was none.
    pub fn each<T: Serialize>(
        mut self,
        encoder: &Encoder,
        json: bool,
        mut answer: impl FnMut(String, Vec<u8>) -> Result<T>,
        lines: impl Fn(&T, &mut Output) -> Result<()>,
    ) -> Result<bool> {
        let mut records = Records::stdout(json);
        for path in std::mem::take(&mut self.paths) {
            match planes(&path, encoder, self.limits) {
                Ok(planes) => {
                    let name = path.to_string_lossy().into_owned();
                    records.write(&answer(name, planes)?, &lines)?;
                }
                Err(fault) => self.fail(&fault),
            }
        }
        records.finish()?;
        Ok(self.complete)
    }

    fn fail(&mut self, fault: &CliError) {
        self.complete = false;
        error(fault.message());
    }
}

fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    if path.as_os_str() == STDIN {
        return Ok(vec![path.to_owned()]);
    }
    if let Some(scheme) = scheme(path) {
        return Err(CliError::Content {
            path: path.to_owned(),
            reason: format!(
                "an address ({scheme}), and pictures are read from files; download it first, or pipe it in with {STDIN}"
            ),
        });
    }
    if !std::fs::metadata(path)
        .map_err(CliError::file(path))?
        .is_dir()
    {
        return Ok(vec![path.to_owned()]);
    }
    let files = Files::directory(path)?;
    tell_left_out(path, &files);
    Ok(files.paths().collect())
}

/// Says what a walk through a folder left out.
pub fn tell_left_out(folder: &Path, files: &Files) {
    let left_out = files.left_out();
    let text = format!("{}: left out {left_out}", folder.display());
    match (left_out.is_empty(), left_out.loses_pictures()) {
        (true, _) => {}
        (_, true) => warn(text),
        (_, false) => note(text),
    }
}

fn scheme(path: &Path) -> Option<&str> {
    let (scheme, _) = path.to_str()?.split_once(':')?;
    let known = ["http", "https", "ftp", "file", "data", "s3", "gs", "hf"];
    let known = known.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    (known && !path.exists()).then_some(scheme)
}

/// A picture's file as the model wants it.
pub fn planes(path: &Path, encoder: &Encoder, limits: Limits) -> Result<Vec<u8>> {
    let fail = |source| CliError::Picture {
        path: path.to_owned(),
        source,
    };
    let picture = decode(&read(path)?, limits).map_err(fail)?;
    encoder.planes(&picture).map_err(|fault| match fault {
        openclip_eval::EvalError::Data(source) => fail(source),
        other => other.into(),
    })
}

/// The bytes of a file, a pipe or standard input, as many as a picture may have.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MAX_MEMBER_BYTES + 1;
    let read = match path.as_os_str() == STDIN {
        true => std::io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(CliError::file(path))?;
    if bytes.len() as u64 == most {
        return Err(CliError::Content {
            path: path.to_owned(),
            reason: format!("more than {MAX_MEMBER_BYTES} bytes, the limit of a picture's file"),
        });
    }
    Ok(bytes)
}
