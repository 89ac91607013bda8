//! Everything a model is measured on, between epochs of training or by itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Tensor;
use openclip_data::image::{Limits, eval_transform};
use openclip_data::loader::{Loader, LoaderOptions, Stats};
use openclip_data::source::image_folder::ImageFolder;
use openclip_data::source::open::Opened;
use openclip_data::source::{Order, Source};
use openclip_data::tokenizer::Tokenizer;

use crate::dataset::Names;
use crate::eight_bits::Change;
use crate::encode::{Encoder, written};
use crate::error::EvalError;
use crate::progress::Progress;
use crate::run;
use crate::zero_shot::{Prompts, folder_classes};

/// What to measure a model on, and how the pictures are loaded.
pub struct Validation {
    /// Captioned pictures, for retrieval and the validation loss.
    pub pairs: Option<Opened>,
    /// Pairs there are, for the progress display alone.
    pub num_pairs: Option<u64>,
    /// Sets of labelled pictures.
    pub zero_shot: Vec<ZeroShot>,
    /// Pictures that go through the tower together.
    pub batch_size: usize,
    /// Threads that decode.
    pub workers: usize,
    /// What a picture may cost.
    pub limits: Limits,
    /// Show progress on stderr.
    pub show_progress: bool,
}

/// Pictures in one folder per class.
pub struct ZeroShot {
    /// Prefix of the metrics, such as `imagenet-zeroshot-val`.
    pub name: String,
    /// The pictures.
    pub folder: Arc<ImageFolder>,
    /// What the classes are called.
    pub prompts: Prompts,
}

/// What the parts of a set are called whose names are those of the whole.
const PARTS: [&str; 4] = ["train", "val", "validation", "test"];

/// Where OpenCLIP's package `imagenetv2_pytorch` puts its pictures below the folder it is told, and where its archive has them.
const IMAGENET_V2: [&str; 2] = [
    "ImageNetV2-matched-frequency",
    "imagenetv2-matched-frequency-format-val",
];

/// The folder with ImageNet-V2's classes, if it is in `given`; else that itself.
pub(crate) fn imagenet_v2_root(given: &Path) -> PathBuf {
    let below = IMAGENET_V2.map(|name| given.join(name));
    let root = below.into_iter().find(|path| path.is_dir());
    root.unwrap_or_else(|| given.to_owned())
}

impl ZeroShot {
    /// Opens the folder `root`. Without prompts of its own they are those of `classnames.txt` and
    /// `zeroshot_classification_templates.txt` in it, or above it where it is one of a set's parts, such as `train`. Without these, a
    /// folder of 1,000 classes gets ImageNet's names and templates, and any other those of [`folder_classes`] under ImageNet's
    /// templates: ImageNet-A and -R, whose folders are named by wordnet ids of 200 of the classes, are scored among these alone. 1,000
    /// folders named `0` to `999` are ImageNet's classes by number.
    ///
    /// # Errors
    /// When a file or the folder cannot be read or has another number of classes than there are names.
    pub fn open(name: &str, root: &Path, prompts: Option<Prompts>) -> Result<Self, EvalError> {
        let names = match prompts {
            Some(Prompts {
                classes, templates, ..
            }) => Names {
                classes: Some(classes),
                templates: Some(templates),
            },
            None => {
                let is_part = root
                    .file_name()
                    .is_some_and(|part| PARTS.map(OsStr::new).contains(&part));
                let above = root.parent().filter(|_| is_part);
                Names::beside(&[&[root], above.as_slice()].concat())?
            }
        };
        Self::named(name, root, names)
    }

    /// The same with the names and templates that there are.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn named(name: &str, root: &Path, names: Names) -> Result<Self, EvalError> {
        let mut folder = ImageFolder::open(root)?;
        let imagenet = Prompts::imagenet()?;
        let is_number = |name: &String| name.parse::<usize>().is_ok();
        let is_imagenet = folder.classes().len() == imagenet.classes.len();
        if is_imagenet && folder.classes().iter().all(is_number) {
            folder = folder.by_number(imagenet.classes.len())?;
        }
        let classes = match names.classes {
            Some(classes) => classes,
            None if is_imagenet => imagenet.classes,
            None => folder_classes(folder.classes())?,
        };
        let prompts = Prompts {
            classes,
            templates: names.templates.unwrap_or(imagenet.templates),
            simple_templates: Vec::new(),
        };
        if prompts.classes.len() != folder.classes().len() {
            return Err(EvalError::List {
                path: root.to_owned(),
                problem: format!(
                    "{} class folders for {} class names",
                    folder.classes().len(),
                    prompts.classes.len()
                ),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            folder: Arc::new(folder),
            prompts,
        })
    }

    /// Opens ImageNet-V2: folders named by the numbers of ImageNet's classes, 0 to 999, in `given` or in the folder below it that
    /// OpenCLIP reads. `prompts` are taken where they are of 1,000 classes, else ImageNet's.
    ///
    /// # Errors
    /// When the folder cannot be read, or a class folder has another name.
    pub fn imagenet_v2(given: &Path, prompts: Option<&Prompts>) -> Result<Self, EvalError> {
        let root = &imagenet_v2_root(given);
        let imagenet = Prompts::imagenet()?;
        let classes = imagenet.classes.len();
        let prompts = prompts.filter(|prompts| prompts.classes.len() == classes);
        Ok(Self {
            name: "imagenetv2-zeroshot-val".to_owned(),
            folder: Arc::new(ImageFolder::open(root)?.by_number(classes)?),
            prompts: prompts.cloned().unwrap_or(imagenet),
        })
    }
}

/// Which of the measurements to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Retrieval and the validation loss.
    pub pairs: bool,
    /// Zero-shot accuracy.
    pub zero_shot: bool,
}

impl Due {
    /// Everything.
    pub const ALL: Self = Self {
        pairs: true,
        zero_shot: true,
    };
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Name and value of every metric.
    pub metrics: Vec<(String, f64)>,
    /// Whether every score and loss was a number; the metrics say nothing otherwise.
    pub is_finite: bool,
}

impl Validation {
    /// Metrics under OpenCLIP's names, in the order in which it computes them, then those of retrieval under CLIP_benchmark's (see
    /// [`crate::retrieval`]). Warns of features that are not finite.
    ///
    /// # Errors
    /// When data cannot be read or the device fails.
    pub fn run(
        &self,
        encoder: &Encoder,
        tokenizer: &Arc<dyn Tokenizer>,
        due: Due,
    ) -> Result<Measured, EvalError> {
        self.run_with(encoder, tokenizer, due, None)
    }

    /// The same with a classifier of one's own, `[embed_dim, classes]` of all sets, in place of what class names say.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_with(
        &self,
        encoder: &Encoder,
        tokenizer: &Arc<dyn Tokenizer>,
        due: Due,
        own: Option<&Tensor<2>>,
    ) -> Result<Measured, EvalError> {
        let mut metrics = Vec::new();
        let mut is_finite = true;
        let exact = encoder.exact();
        let mut known: Option<(&Prompts, (Tensor<2>, Option<Tensor<2>>))> = None;
        for set in self.zero_shot.iter().filter(|_| due.zero_shot) {
            let prompts = &set.prompts;
            let classifier = |encoder: &Encoder| {
                if let Some(own) = own {
                    return Ok(own.clone());
                }
                let classes = prompts.classes.len() as u64;
                let progress = self.progress("zero-shot classifier", Some(classes), "classes");
                let tokenizer = tokenizer.as_ref();
                let found = run::zero_shot_classifier(encoder, tokenizer, prompts, &progress)?;
                progress.finish();
                Ok::<_, EvalError>(found)
            };
            // ImageNet and its second version share the classes, whose prompts take longer than many pictures.
            let known_ones = known.take().filter(|(others, _)| *others == prompts);
            let (classifier, of_exact) = match known_ones {
                Some((_, known)) => known,
                None => (
                    classifier(encoder)?,
                    exact.as_ref().map(classifier).transpose()?,
                ),
            };
            let change = exact.clone().zip(of_exact.clone());
            let mut change = change.map(|(exact, weights)| Change::new(weights, exact));
            let images = openclip_data::source::table::Table::len(set.folder.as_ref()) as u64;
            let progress = self.progress("zero-shot", Some(images), "images");
            let source = Arc::clone(&set.folder) as Arc<dyn Source>;
            let mut batches = self.load(encoder, source, false, None, self.batch_size)?;
            let pictures = batches.by_ref();
            let accuracy =
                run::zero_shot(encoder, &classifier, change.as_mut(), pictures, &progress)?;
            progress.finish();
            if let Some(change) = change {
                change.tell(&set.name);
            }
            tell_passed_over(&set.name, &batches.stats());
            known = Some((prompts, (classifier, of_exact)));
            if accuracy.not_finite() > 0 {
                is_finite = false;
                log::warn!(
                    "{}: the scores of {} of {} pictures are not finite; the accuracy says nothing",
                    set.name,
                    accuracy.not_finite(),
                    accuracy.count()
                );
            }
            metrics.push((format!("{}-top1", set.name), accuracy.top1()));
            metrics.push((format!("{}-top5", set.name), accuracy.top5()));
        }
        if let Some(pairs) = self.pairs.as_ref().filter(|_| due.pairs) {
            let progress = self.progress("retrieval", self.num_pairs, "pairs");
            let tokenizer = Some(Arc::clone(tokenizer));
            let source = Arc::clone(&pairs.source);
            let size = self.batch_size;
            let mut batches = self.load(encoder, source, pairs.rgb_first, tokenizer, size)?;
            let by_picture = pairs.named_by_picture;
            let found = run::pairs(encoder, batches.by_ref(), by_picture, &progress)?;
            progress.finish();
            tell_passed_over("retrieval", &batches.stats());
            if !found.is_finite {
                is_finite = false;
                log::warn!("retrieval: features or loss are not finite; the metrics say nothing");
            }
            metrics.extend(found.named());
        }
        Ok(Measured { metrics, is_finite })
    }

    /// Loads the first pair that can be used.
    ///
    /// # Errors
    /// When the set cannot be read or has none.
    pub fn check_pairs(
        &self,
        encoder: &Encoder,
        tokenizer: &Arc<dyn Tokenizer>,
    ) -> Result<(), EvalError> {
        let check = |pairs: &Opened| {
            let (source, tokenizer) = (Arc::clone(&pairs.source), Arc::clone(tokenizer));
            self.check(encoder, source, pairs.rgb_first, Some(tokenizer))
        };
        self.pairs.as_ref().map_or(Ok(()), check)
    }

    /// Loads the first labelled picture of `set` that can be used.
    ///
    /// # Errors
    /// As [`Self::check_pairs`].
    pub fn check_zero_shot(&self, encoder: &Encoder, set: &ZeroShot) -> Result<(), EvalError> {
        self.check(encoder, Arc::clone(&set.folder) as _, false, None)
    }

    fn check(
        &self,
        encoder: &Encoder,
        source: Arc<dyn Source>,
        rgb_first: bool,
        tokenizer: Option<Arc<dyn Tokenizer>>,
    ) -> Result<(), EvalError> {
        let set = source.describe();
        let mut pictures = self.load(encoder, source, rgb_first, tokenizer, 1)?;
        let found = pictures.next();
        let problems = pictures.stats().problems;
        match found {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) if problems.is_empty() => Err(error.into()),
            Some(Err(_)) | None => {
                let problems = problems
                    .iter()
                    .map(|(kind, count)| format!("{count} × {kind}"));
                let problems = problems.collect::<Vec<_>>().join(", ");
                let colon = if problems.is_empty() { "" } else { ": " };
                let problems = format!("{colon}{problems}");
                Err(EvalError::Unusable { set, problems })
            }
        }
    }

    fn progress(&self, what: &str, total: Option<u64>, unit: &str) -> Progress {
        if self.show_progress {
            Progress::new(what, total, unit)
        } else {
            Progress::hidden()
        }
    }

    fn load(
        &self,
        encoder: &Encoder,
        source: Arc<dyn Source>,
        rgb_first: bool,
        tokenizer: Option<Arc<dyn Tokenizer>>,
        batch_size: usize,
    ) -> Result<Loader, EvalError> {
        let transform = eval_transform(
            encoder.image_size,
            &encoder.preprocess,
            rgb_first,
            self.limits,
        )?;
        let tokenizer = tokenizer.map(|tokenizer| written(encoder.model(), tokenizer));
        let options = LoaderOptions {
            workers: self.workers,
            ..LoaderOptions::new(batch_size, encoder.image_size, Order::sequential())
        };
        Ok(Loader::start(source, transform, tokenizer, &options)?)
    }
}

/// Says how many samples of a set were of no use, and why.
pub(crate) fn tell_passed_over(set: &str, stats: &Stats) {
    let dropped = stats
        .problems
        .iter()
        .filter(|(kind, _)| kind.drops_sample());
    let dropped: Vec<_> = dropped
        .map(|(kind, count)| format!("{count} × {kind}"))
        .collect();
    if !dropped.is_empty() {
        log::warn!("{set}: {} were passed over", dropped.join(", "));
    }
}

#[cfg(test)]
mod tests;
