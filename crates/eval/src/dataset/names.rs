//! What the classes of a set are called, and the templates that make prompts of their names.

use std::path::Path;

use crate::error::EvalError;
use crate::lines::read_text;

/// Class names beside a set's pictures, one a line.
const CLASSES: &str = "classnames.txt";
/// Templates there, one a line, with `{c}` where the class name goes.
const TEMPLATES: &str = "zeroshot_classification_templates.txt";

/// Names and templates, where a set brings them along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Class names; the label is the index.
    pub classes: Option<Vec<String>>,
    /// Templates with `{}` or `{c}`.
    pub templates: Option<Vec<String>>,
}

impl Names {
    /// Reads both from the first of `folders` that has them.
    ///
    /// # Errors
    /// When a file cannot be read, has an empty line between others, or a template has no place for the class name.
    pub(super) fn beside(folders: &[&Path]) -> Result<Self, EvalError> {
        Ok(Self {
            classes: first(folders, CLASSES, |name| !name.is_empty(), "is empty")?,
            templates: first(
                folders,
                TEMPLATES,
                |template| template.contains("{}") || template.contains("{c}"),
                "has neither {} nor {c}",
            )?,
        })
    }
}

fn first(
    folders: &[&Path],
    name: &str,
    is_good: fn(&str) -> bool,
    problem: &str,
) -> Result<Option<Vec<String>>, EvalError> {
    let paths = folders.iter().map(|folder| folder.join(name));
    let Some(path) = paths.into_iter().find(|path| path.is_file()) else {
        return Ok(None);
    };
    let text = read_text(&path)?;
    let lines: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    if lines.is_empty() {
        return Err(EvalError::list(
            &path,
            "there is nothing in it; expected one a line",
        ));
    }
    match lines.iter().position(|line| !is_good(line)) {
        Some(at) => Err(EvalError::list(
            &path,
            format!("line {} {problem}: {:?}", at + 1, lines[at]),
        )),
        None => Ok(Some(lines)),
    }
}
