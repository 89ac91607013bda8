//! One measurement here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use openclip_data::image::{Limits, eval_transform};
use openclip_data::loader::{Loader, LoaderOptions};
use openclip_data::source::Order;
use openclip_data::source::files::Files;
use openclip_data::tokenizer::{ClipTokenizer, Tokenizer};
use openclip_eval::zero_shot::Prompts;
use openclip_model::config::PreprocessConfig;
use openclip_train::Precision;
use openclip_train::bench::{BenchOptions, ModelBench, loss_seconds};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rows::{Row, Work};
use crate::args::bench::BenchArgs;
use crate::error::{CliError, Result};

/// A figure is the mean of as many repetitions as fill this.
pub const LEAST_SECONDS: f64 = 0.3;

/// Tokens of a short caption.
pub const SHORT: usize = 10;

/// Tokens of a caption that is trained on.
pub const CAPTION: usize = 20;

/// Features of a loss.
pub const WIDTH: usize = 512;

/// Files that both sides read.
#[derive(Debug, Clone)]
pub struct Room {
    /// Pictures of 512×384.
    pub pictures: PathBuf,
    /// Captions, one a line.
    pub captions: PathBuf,
    /// Weights for `classify`.
    pub weights: PathBuf,
}

/// This side.
pub struct Ours<'a> {
    args: &'a BenchArgs,
    device: Device,
    threads: usize,
    room: Room,
    /// The model that was measured last.
    model: Option<(String, Precision, ModelBench)>,
    /// Removed with it.
    _folder: tempfile::TempDir,
}

impl<'a> Ours<'a> {
    /// With a folder of its own for what both sides read.
    pub fn new(args: &'a BenchArgs, device: &Device, threads: usize) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(CliError::file(&std::env::temp_dir()))?;
        let path = |name| folder.path().join(name);
        Ok(Self {
            args,
            device: device.clone(),
            threads,
            room: Room {
                pictures: args.images.clone().unwrap_or_else(|| path("pictures")),
                captions: path("captions.txt"),
                weights: path("weights.safetensors"),
            },
            model: None,
            _folder: folder,
        })
    }

    /// What the other side reads as well.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Seconds of one repetition, or bytes; `None` where the system does not tell.
    pub fn measure(&mut self, row: &Row) -> Result<Option<f64>> {
        Ok(Some(match row.work {
            Work::Images | Work::ImagesInt8 => {
                self.repeated(row, |model| model.images(row.size))?
            }
            Work::Texts => self.repeated(row, |model| model.texts(row.size))?,
            Work::ShortTexts => self.repeated(row, |model| model.short_texts(row.size, SHORT))?,
            Work::Train => self.repeated(row, |model| model.step(row.size, usize::MAX))?,
            Work::ShortTrain => self.repeated(row, |model| model.step(row.size, CAPTION))?,
            Work::Update => self.repeated(row, ModelBench::update)?,
            Work::Loss => {
                self.model = None;
                mean(|| Ok(loss_seconds(row.size, WIDTH, &self.device)?))?
            }
            Work::Loader => self.load(row.size)?,
            Work::Tokenizer => self.tokenize(row.size)?,
            Work::Start => self.start(row)?,
            Work::EncodeMemory => return self.memory(row, "--encode-only"),
            Work::TrainMemory => return self.memory(row, "--train-only"),
        }))
    }

    fn repeated(
        &mut self,
        row: &Row,
        mut work: impl FnMut(&mut ModelBench) -> std::result::Result<f64, openclip_train::TrainError>,
    ) -> Result<f64> {
        let precision = match row.work {
            Work::ImagesInt8 => Precision::Int8,
            _ => self.args.model.precision(),
        };
        let is_it = |(name, of, _): &(String, Precision, ModelBench)| {
            *name == row.model && *of == precision
        };
        if !self.model.as_ref().is_some_and(is_it) {
            self.model = None;
            let options = BenchOptions {
                precision,
                train: false,
                ..self.args.options_of(&row.model)
            };
            let bench = ModelBench::new(&options, &self.device)?;
            self.model = Some((row.model.clone(), precision, bench));
        }
        let Some((_, _, model)) = &mut self.model else {
            return Ok(f64::NAN);
        };
        mean(|| Ok(work(model)?))
    }

    /// Every picture once, on one thread.
    fn load(&mut self, count: usize) -> Result<f64> {
        let folder = &self.room.pictures;
        if !folder.exists() {
            draw(folder, count)?;
        }
        let files: Vec<_> = Files::directory(folder)?.paths().collect();
        let count = files.len();
        let size = [224; 2];
        let preprocess = PreprocessConfig::default();
        let transform = eval_transform(size, &preprocess, false, Limits::default())?;
        let options = LoaderOptions {
            workers: 1,
            ..LoaderOptions::new(count, size, Order::sequential())
        };
        let seconds = mean(|| {
            let start = Instant::now();
            let source = Arc::new(Files::list(files.clone()));
            let loader = Loader::start(source, transform.clone(), None, &options)?;
            for batch in loader {
                batch?;
            }
            Ok(start.elapsed().as_secs_f64())
        })?;
        Ok(seconds / count.max(1) as f64)
    }

    fn tokenize(&mut self, count: usize) -> Result<f64> {
        let prompts = Prompts::imagenet()?;
        let captions = (0..count).map(|i| {
            let class = &prompts.classes[i * 7 % prompts.classes.len()];
            let template = &prompts.templates[i * 13 % prompts.templates.len()];
            template.replace("{}", class)
        });
        let captions: Vec<String> = captions.collect();
        if !self.room.captions.exists() {
            let path = &self.room.captions;
            std::fs::write(path, captions.join("\n")).map_err(CliError::file(path))?;
        }
        // As the peer does, from a cold word cache.
        let tokenizer = ClipTokenizer::new(77);
        let start = Instant::now();
        for caption in &captions {
            tokenizer.tokenize(caption)?;
        }
        Ok(start.elapsed().as_secs_f64() / count.max(1) as f64)
    }

    /// A process that answers.
    fn start(&mut self, row: &Row) -> Result<f64> {
        let folder = &self.room.pictures;
        if !folder.exists() {
            draw(folder, 32)?;
        }
        let model = ["--model", &row.model];
        if !self.room.weights.exists() {
            self.model = None;
            let output = self.room.weights.to_string_lossy().into_owned();
            self.process(&[&["convert"], &model[..], &["--output", &output]].concat())?;
        }
        let picture = picture(folder)?;
        let [weights, picture] =
            [&self.room.weights, &picture].map(|path| path.to_string_lossy().into_owned());
        let ask = ["classify", "--pretrained", &weights, "--image", &picture];
        let texts = ["--text", "a diagram", "a dog", "a cat"];
        let device = ["--device", &self.args.model.device];
        let start = Instant::now();
        self.process(&[&ask, &model[..], &device, &texts].concat())?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// What a process of its own says of its memory.
    fn memory(&mut self, row: &Row, what: &str) -> Result<Option<f64>> {
        self.model = None;
        let size = row.size.to_string();
        let device = &self.args.model.device;
        let precision = self.args.model.precision().name().to_owned();
        let ask = ["bench", "--model", &row.model, "--batch", &size, what];
        let how = ["--steps", "1", "--warmup", "1", "--device", device];
        let said = self.process(&[&ask[..], &how, &["--precision", &precision]].concat())?;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        Ok(said["peak_memory_bytes"].as_f64())
    }

    /// Another process of this program; gives its standard output.
    fn process(&self, words: &[&str]) -> Result<String> {
        let program = std::env::current_exe().map_err(CliError::Output)?;
        let failed = |reason: String| CliError::Content {
            path: program.clone(),
            reason: format!("{}: {reason}", words.first().unwrap_or(&"")),
        };
        let done = Command::new(&program)
            .args(words)
            .env("RAYON_NUM_THREADS", self.threads.to_string())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            false => Err(failed(
                String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            )),
        }
    }
}

/// Mean over the repetitions that fill [`LEAST_SECONDS`].
fn mean(mut work: impl FnMut() -> Result<f64>) -> Result<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    while sum < LEAST_SECONDS {
        sum += work()?;
        count += 1.0;
    }
    Ok(sum / count)
}

/// The first picture of a folder.
pub fn picture(folder: &Path) -> Result<PathBuf> {
    let first = Files::directory(folder)?.paths().next();
    first.ok_or_else(|| CliError::Content {
        path: folder.to_owned(),
        reason: "no picture in it".into(),
    })
}

/// Pictures whose spectrum falls off as a photograph's does: noise of several sizes over one another.
fn draw(folder: &Path, count: usize) -> Result<()> {
    const SIZE: [usize; 2] = [512, 384];
    std::fs::create_dir_all(folder).map_err(CliError::file(folder))?;
    let mut random = StdRng::seed_from_u64(1);
    for number in 0..count {
        let mut pixels = vec![128.0_f32; SIZE[0] * SIZE[1] * 3];
        for octave in 0..8 {
            let (step, height) = (256 >> octave, 60.0 / 1.6_f32.powi(octave));
            let columns = SIZE[0] / step + 2;
            let grid: Vec<f32> = (0..columns * (SIZE[1] / step + 2) * 3)
                .map(|_| random.random_range(-height..=height))
                .collect();
            for (place, value) in pixels.iter_mut().enumerate() {
                let (channel, x, y) = (place % 3, place / 3 % SIZE[0], place / 3 / SIZE[0]);
                let (u, v) = (
                    (x % step) as f32 / step as f32,
                    (y % step) as f32 / step as f32,
                );
                let at = |dx, dy| grid[((y / step + dy) * columns + x / step + dx) * 3 + channel];
                let top = at(0, 0) * (1.0 - u) + at(1, 0) * u;
                let bottom = at(0, 1) * (1.0 - u) + at(1, 1) * u;
                *value += top * (1.0 - v) + bottom * v;
            }
        }
        let pixels: Vec<u8> = pixels.into_iter().map(|value| value as u8).collect();
        let path = folder.join(format!("{number:03}.jpg"));
        let encoder = jpeg_encoder::Encoder::new_file(&path, 90);
        encoder
            .and_then(|encoder| {
                let [width, height] = SIZE.map(|side| side as u16);
                encoder.encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb)
            })
            .map_err(|error| CliError::Content {
                path: path.clone(),
                reason: error.to_string(),
            })?;
    }
    Ok(())
}
