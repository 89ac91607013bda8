//! What a model computed at one revision, kept in a file for another revision to be compared with.
//!
//! A file holds the pictures and token ids, `input/…`, what came of them, `output/…`, and in its metadata which model it was;
//! OpenCLIP's `tests/util_test.py` makes such references for its own tests.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType, Tensor};
use openclip_model::config::ModelConfig;
use openclip_model::factory::{self, CONFIG_METADATA, CreateOptions, Loaded};
use openclip_model::text::hf::HfArch;

use openclip_model::weights::{DType, StateDict, TensorOut, write_safetensors};
use openclip_model::{Clip, init, pixels, registry};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::max_difference;

/// Largest difference that is none. Features are of unit length, and captions' logits at the start of training of about one:
/// sums in another order move them by a few 1e-7.
pub const TOLERANCE: f32 = 1e-5;

/// What there is to say of a failure.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A model and its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// As `--model` names it.
    pub model: String,
    /// As `--pretrained` names them; else a folder's or repository's own, or initial ones.
    pub pretrained: Option<String>,
    /// Of initial weights, pictures and token ids.
    pub seed: u64,
}

/// Pictures and captions.
struct Inputs {
    /// `[batch, 3, height, width]`.
    planes: Vec<u8>,
    image_shape: [usize; 4],
    /// `[batch, context]`.
    ids: Vec<i32>,
    text_shape: [usize; 2],
}

/// Shape and values by name.
type Outputs = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The file in `folder` that holds the references of `model`.
pub fn file(folder: &Path, model: &str) -> PathBuf {
    let name = match Path::new(model).file_stem() {
        Some(stem) if model.ends_with(".json") => stem.to_string_lossy().into_owned(),
        _ => model.replace(['/', '\\', ':'], "-"),
    };
    folder.join(format!("{name}.safetensors"))
}

/// Writes what `subject` makes of `batch` random pictures and captions to its file in `folder`, which it returns.
pub fn save(subject: &Subject, batch: usize, device: &Device, folder: &Path) -> Result<PathBuf> {
    let loaded = subject.load(device)?;
    let inputs = Inputs::random(&loaded.config, batch, subject.seed)?;
    let outputs = compute(&loaded, &inputs, device)?;
    if let Some(name) = not_finite(&outputs) {
        return Err(format!("{name} has values that are not finite").into());
    }
    let mut metadata = BTreeMap::from([
        ("model".into(), subject.model.clone()),
        ("seed".into(), subject.seed.to_string()),
        (CONFIG_METADATA.into(), configuration(&loaded)),
    ]);
    if let Some(pretrained) = &subject.pretrained {
        metadata.insert("pretrained".into(), pretrained.clone());
    }
    let ids: Vec<u8> = inputs.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let mut tensors = vec![
        TensorOut {
            key: "input/image",
            dtype: DType::U8,
            shape: &inputs.image_shape,
            bytes: inputs.planes.as_slice().into(),
        },
        TensorOut {
            key: "input/text",
            dtype: DType::I32,
            shape: &inputs.text_shape,
            bytes: ids.into(),
        },
    ];
    let outputs = outputs.iter();
    tensors.extend(outputs.map(|(key, (shape, values))| TensorOut::f32(key, shape, values)));
    std::fs::create_dir_all(folder)?;
    let file = file(folder, &subject.model);
    write_safetensors(&file, tensors, &metadata)?;
    Ok(file)
}

/// Computes once more what `file` holds; returns the largest difference.
///
/// # Errors
/// A difference of more than `tolerance` or a value that is not finite, with the output's name; an output that one side
/// lacks or that has another shape; a model that cannot be built, or a file that cannot be read.
pub fn check(file: &Path, device: &Device, tolerance: f32) -> Result<f32> {
    let saved = StateDict::read(file)?;
    let loaded = Subject::of(&saved)?.load(device)?;
    let expected = outputs(&saved)?;
    let found = compute(&loaded, &Inputs::of(&saved)?, device)?;
    compare(&found, &expected, tolerance).map_err(|fault| {
        match saved.metadata.get(CONFIG_METADATA) {
            Some(config) if *config == configuration(&loaded) => fault.into(),
            _ => format!("{fault}; its configuration is another one as well").into(),
        }
    })
}

impl Subject {
    /// What the metadata of a file say.
    fn of(saved: &StateDict) -> Result<Self> {
        let entry = |key: &str| saved.metadata.get(key).cloned();
        Ok(Self {
            model: entry("model").ok_or("its metadata name no model")?,
            pretrained: entry("pretrained"),
            seed: entry("seed").ok_or("its metadata have no seed")?.parse()?,
        })
    }

    /// The model. Initial weights are those of the seed in the whole model: no Hugging Face encoder is downloaded into it.
    fn load(&self, device: &Device) -> Result<Loaded> {
        let source = registry::resolve(&self.model, None)?;
        if self.pretrained.is_none() && source.weights.is_none() {
            let model = Clip::new(&source.config, device)?;
            return Ok(Loaded {
                model: init::initialise(model, &source.config, self.seed),
                name: source.name,
                config: source.config,
                preprocess: source.preprocess.unwrap_or_default(),
                warnings: Vec::new(),
            });
        }
        let options = CreateOptions {
            seed: self.seed,
            ..CreateOptions::default()
        };
        let pretrained = self.pretrained.as_deref();
        Ok(factory::create(&self.model, pretrained, device, &options)?)
    }
}

impl Inputs {
    /// Noise, and captions of any length from two tokens to the whole context.
    fn random(config: &ModelConfig, batch: usize, seed: u64) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let (height, width) = config.vision_cfg.image_size.dims();
        let (vocabulary, pad) = match config.text_cfg.hf()? {
            Some(options) => {
                let arch = HfArch::of(&options)?;
                (arch.vocab_size, arch.pad_id)
            }
            None => (config.text_cfg.vocab_size, config.text_cfg.pad_id),
        };
        let context = config.text_cfg.context_length;
        let mut ids = Vec::with_capacity(batch * context);
        for _ in 0..batch {
            let length = rng.random_range(context.min(2)..=context);
            ids.extend((0..length).map(|_| rng.random_range(0..vocabulary) as i32));
            ids.resize(ids.len() + context - length, pad as i32);
        }
        let planes = batch * 3 * height * width;
        Ok(Self {
            planes: (0..planes).map(|_| rng.random()).collect(),
            image_shape: [batch, 3, height, width],
            ids,
            text_shape: [batch, context],
        })
    }

    /// Those of a file.
    fn of(saved: &StateDict) -> Result<Self> {
        let (image_shape, planes) = read(saved, "input/image")?;
        let (text_shape, ids) = read(saved, "input/text")?;
        Ok(Self {
            planes: planes.into_iter().map(|value| value as u8).collect(),
            image_shape: image_shape
                .try_into()
                .map_err(|_| "input/image is no batch")?,
            ids: ids.into_iter().map(|value| value as i32).collect(),
            text_shape: text_shape
                .try_into()
                .map_err(|_| "input/text is no batch")?,
        })
    }
}

fn compute(loaded: &Loaded, inputs: &Inputs, device: &Device) -> Result<Outputs> {
    let planes = pixels::planes(inputs.planes.clone(), inputs.image_shape, device);
    let image = pixels::normalise(planes, &loaded.preprocess, FloatDType::F32);
    let tokens = pixels::tokens(inputs.ids.clone(), inputs.text_shape, device);
    let mut outputs = Outputs::new();
    let features = if loaded.model.writes_captions() {
        let captions = loaded.model.forward_caption(image, tokens, None)?;
        outputs.insert("output/caption_logits".into(), on_host(captions.logits)?);
        captions.features
    } else {
        loaded.model.forward(image, tokens)
    };
    let entry = |name: &str| format!("output/{name}");
    outputs.insert(entry("image_features"), on_host(features.image_features)?);
    outputs.insert(entry("text_features"), on_host(features.text_features)?);
    outputs.insert(entry("logit_scale"), on_host(features.logit_scale)?);
    if let Some(bias) = features.logit_bias {
        outputs.insert(entry("logit_bias"), on_host(bias)?);
    }
    Ok(outputs)
}

fn on_host<const D: usize>(tensor: Tensor<D>) -> Result<(Vec<usize>, Vec<f32>)> {
    let shape = tensor.dims().to_vec();
    let values = tensor.try_into_vec_as();
    Ok((shape, values.map_err(|error| format!("{error:?}"))?))
}

fn read(saved: &StateDict, key: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let tensor = saved.tensors.get(key);
    let tensor = tensor.ok_or_else(|| format!("it has no `{key}`"))?;
    Ok((tensor.shape.clone(), tensor.to_f32()?))
}

fn outputs(saved: &StateDict) -> Result<Outputs> {
    let keys = saved
        .tensors
        .keys()
        .filter(|key| key.starts_with("output/"));
    keys.map(|key| Ok((key.clone(), read(saved, key)?)))
        .collect()
}

/// The first output with a value that is none.
fn not_finite(outputs: &Outputs) -> Option<&str> {
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    let mut outputs = outputs.iter();
    let (name, _) = outputs.find(|(_, (_, values))| !finite(values))?;
    Some(name)
}

fn compare(
    found: &Outputs,
    expected: &Outputs,
    tolerance: f32,
) -> std::result::Result<f32, String> {
    let lacks =
        |side: &Outputs, of: &Outputs| of.keys().find(|key| !side.contains_key(*key)).cloned();
    if let Some(key) = lacks(found, expected) {
        return Err(format!("there is no {key} any longer"));
    }
    if let Some(key) = lacks(expected, found) {
        return Err(format!("the file has no {key}"));
    }
    for (side, outputs) in [("the file", expected), ("the model", found)] {
        if let Some(key) = not_finite(outputs) {
            return Err(format!("{key} of {side} has values that are not finite"));
        }
    }
    let mut largest = 0.0_f32;
    for (key, (shape, values)) in found {
        let (expected_shape, expected) = &expected[key];
        if shape != expected_shape {
            return Err(format!(
                "{key} is of shape {shape:?}, not {expected_shape:?}"
            ));
        }
        let difference = max_difference(values, expected);
        if difference > tolerance {
            return Err(format!(
                "{key} differs by {difference:e}, more than {tolerance:e}"
            ));
        }
        largest = largest.max(difference);
    }
    Ok(largest)
}

fn configuration(loaded: &Loaded) -> String {
    factory::hub_config(&loaded.config, &loaded.preprocess).to_string()
}
