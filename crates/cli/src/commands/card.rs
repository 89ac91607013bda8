//! The page that the hub shows of a model, with the header that it searches by.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use openclip_model::factory::Loaded;
use serde_json::Value;

use crate::error::{CliError, Result};

/// A model's page.
pub struct Card {
    /// What the model is called.
    pub name: String,
    /// The repository, where there is one.
    pub repository: Option<String>,
    /// The licence's name on the hub, such as `mit`.
    pub license: Option<String>,
    /// Words that the hub searches by, beside `clip`.
    pub tags: Vec<String>,
    /// What was measured.
    pub results: Vec<Measured>,
}

/// One figure of one data set.
#[derive(Debug, PartialEq)]
pub struct Measured {
    dataset: String,
    task: String,
    metric: String,
    value: f64,
}

impl Card {
    /// A page with nothing but the model.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            repository: None,
            license: None,
            tags: Vec::new(),
            results: Vec::new(),
        }
    }

    /// The page's text.
    pub fn text(&self, loaded: &Loaded) -> String {
        let mut text = String::from("---\ntags:\n- clip\n");
        for tag in &self.tags {
            text += &format!("- {tag}\n");
        }
        text += "library_name: open_clip\npipeline_tag: zero-shot-image-classification\n";
        if let Some(license) = &self.license {
            text += &format!("license: {license}\n");
        }
        let (height, width) = loaded.config.vision_cfg.image_size.dims();
        let (length, dim) = (
            loaded.config.text_cfg.context_length,
            loaded.config.embed_dim,
        );
        let source = match &self.repository {
            Some(repository) => format!("hf-hub:{repository}"),
            None => "local-dir:.".to_owned(),
        };
        let name = &self.name;
        text += &format!(
            "\
---
# {name}

A contrastive image-text model in the format of [OpenCLIP](https://github.com/mlfoundations/open_clip): pictures of
{height}x{width} pixels and captions of up to {length} tokens become vectors of {dim} numbers.

```sh
openclip classify --model {source} --image cat.jpg --text 'a cat' 'a dog'
```

```python
model, _, preprocess = open_clip.create_model_and_transforms('{source}')
```
"
        );
        if !self.results.is_empty() {
            text += "\n## Results\n\n| data set | task | metric | value |\n|---|---|---|---|\n";
        }
        for Measured {
            dataset,
            task,
            metric,
            value,
        } in &self.results
        {
            // Writing into a string does not fail.
            let _ = writeln!(text, "| {dataset} | {task} | {metric} | {value:.4} |");
        }
        text
    }
}

/// What evaluations measured, from `.json` files in CLIP_benchmark's form and from folders with some.
pub fn results(paths: &[PathBuf]) -> Result<Vec<Measured>> {
    let mut found = Vec::new();
    for path in paths {
        let files = match path.is_dir() {
            true => json_files(path)?,
            false => vec![path.clone()],
        };
        for file in files {
            found.extend(read(&file)?);
        }
    }
    Ok(found)
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(CliError::file(folder))? {
        let path = entry.map_err(CliError::file(folder))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(content(folder, "holds no .json file of results")),
        false => Ok(files),
    }
}

fn read(path: &Path) -> Result<Vec<Measured>> {
    let bytes = fs::read(path).map_err(CliError::file(path))?;
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|error| content(path, &error.to_string()))?;
    let word = |key: &str| {
        let word = json[key].as_str().map(cell);
        word.ok_or_else(|| {
            content(
                path,
                &format!("no `{key}`: expected results of `openclip eval`"),
            )
        })
    };
    let (dataset, task) = (word("dataset")?, word("task")?);
    let metrics = json["metrics"].as_object();
    let metrics = metrics
        .ok_or_else(|| content(path, "no `metrics`: expected results of `openclip eval`"))?;
    let numbers = metrics.iter().filter_map(|(metric, value)| {
        Some(Measured {
            dataset: dataset.clone(),
            task: task.clone(),
            metric: cell(metric),
            value: value.as_f64()?,
        })
    });
    Ok(numbers.collect())
}

/// A text that ends no cell of a table.
fn cell(text: &str) -> String {
    text.replace(['|', '\n', '\r'], " ")
}

fn content(path: &Path, reason: &str) -> CliError {
    CliError::Content {
        path: path.to_path_buf(),
        reason: reason.to_owned(),
    }
}
