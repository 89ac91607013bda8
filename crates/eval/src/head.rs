//! A linear classifier over a model's features, and its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use openclip_data::tokenizer::Tokenizer;
use openclip_model::ModelError;
use openclip_model::weights::{StateDict, TensorOut, write_safetensors};

use crate::encode::Encoder;
use crate::error::EvalError;
use crate::host::host;
use crate::progress::Progress;
use crate::run::zero_shot_classifier;
use crate::zero_shot::Prompts;

/// A classifier's file beside the weights that it belongs to.
pub const HEAD: &str = "head.safetensors";
/// Its one tensor, `[classes, embed_dim]` as a linear layer's in PyTorch.
const WEIGHT: &str = "weight";
/// Its metadata.
const PROMPTS: &str = "prompts";

/// A linear classifier over features of unit length.
#[derive(Debug, Clone)]
pub struct Head {
    /// One column for each class, `[embed_dim, classes]`.
    pub weight: Tensor<2>,
    /// What the classes are called, and the templates of the classifier that it began with.
    pub prompts: Prompts,
}

impl Head {
    /// What class names and templates say, times the model's own scale: the classifier that fine-tuning begins with (WiSE-FT,
    /// arXiv 2109.01903).
    ///
    /// # Errors
    /// There is no class, or the tokenizer has no ids for a prompt.
    pub fn zero_shot(
        encoder: &Encoder,
        tokenizer: &dyn Tokenizer,
        prompts: &Prompts,
        progress: &Progress,
    ) -> Result<Self, EvalError> {
        let classifier = zero_shot_classifier(encoder, tokenizer, prompts, progress)?;
        let scale = encoder.temperature()?.scale;
        let shape = classifier.dims();
        // Dense, as a file gives it: a product with a turned matrix may add up in another order.
        let data = TensorData::new(host(classifier.mul_scalar(scale))?, shape);
        Ok(Self {
            weight: Tensor::from_data(data, (&encoder.device, DType::F32)),
            prompts: prompts.clone(),
        })
    }

    /// Reads a classifier; in a folder, the one beside its weights, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or is none of a classifier.
    pub fn beside(weights: &Path, device: &Device) -> Result<Option<Self>, EvalError> {
        let folder = match weights.is_dir() {
            true => weights,
            false => weights.parent().unwrap_or(Path::new("")),
        };
        let path = folder.join(HEAD);
        path.is_file()
            .then(|| Self::read(&path, device))
            .transpose()
    }

    /// Reads a classifier.
    ///
    /// # Errors
    /// When the file cannot be read, or is none of a classifier.
    pub fn read(path: &Path, device: &Device) -> Result<Self, EvalError> {
        let wrong = |problem: &str| EvalError::List {
            path: path.to_owned(),
            problem: problem.into(),
        };
        let dict = StateDict::open(path).map_err(ModelError::from)?;
        let prompts = dict.metadata.get(PROMPTS);
        let prompts =
            prompts.ok_or_else(|| wrong("not a classifier: its classes have no names"))?;
        let prompts: Prompts = serde_json::from_str(prompts).map_err(|source| EvalError::Json {
            path: path.to_owned(),
            source,
        })?;
        let tensor = dict.tensors.get(WEIGHT);
        let tensor = tensor.ok_or_else(|| wrong("not a classifier: it has no tensor `weight`"))?;
        let &[classes, width] = tensor.shape.as_slice() else {
            return Err(wrong("not a classifier: its tensor is no matrix"));
        };
        if classes != prompts.classes.len() {
            let names = prompts.classes.len();
            return Err(wrong(&format!("{classes} classes, but {names} names")));
        }
        let turned = tensor.clone().transposed();
        let values = turned.to_f32().map_err(ModelError::from)?;
        let data = TensorData::new(values, [width, classes]);
        Ok(Self {
            weight: Tensor::from_data(data, (device, DType::F32)),
            prompts,
        })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written, or the device does not hand the values back.
    pub fn save(&self, path: &Path) -> Result<(), EvalError> {
        let weight = self.weight.clone().transpose();
        let shape = weight.dims();
        let values = host(weight)?;
        let json = |source| EvalError::Json {
            path: PathBuf::from(path),
            source,
        };
        let prompts = serde_json::to_string(&self.prompts).map_err(json)?;
        let metadata = BTreeMap::from([(PROMPTS.to_owned(), prompts)]);
        let tensor = TensorOut::f32(WEIGHT, &shape, &values);
        write_safetensors(path, [tensor], &metadata).map_err(ModelError::from)?;
        Ok(())
    }

    /// Whether its classes are those of a data set, by number and name.
    ///
    /// # Errors
    /// Names the first that differs; `path` is the data set's.
    pub fn check(&self, classes: &[String], path: &Path) -> Result<(), EvalError> {
        let own = &self.prompts.classes;
        let problem = match own.len() == classes.len() {
            false => format!(
                "{} classes, the classifier has {}",
                classes.len(),
                own.len()
            ),
            true => match own.iter().zip(classes).find(|(own, other)| own != other) {
                None => return Ok(()),
                Some((own, other)) => {
                    format!("a class `{other}` where the classifier has `{own}`")
                }
            },
        };
        Err(EvalError::List {
            path: path.to_owned(),
            problem,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn prompts(classes: &[&str]) -> Prompts {
        Prompts {
            classes: classes.iter().map(|class| class.to_string()).collect(),
            templates: vec!["a {}".into()],
            simple_templates: Vec::new(),
        }
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::default();
        assert!(Head::beside(dir.path(), &device).unwrap().is_none());
        let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let data = TensorData::new(values.clone(), [3, 2]);
        let head = Head {
            weight: Tensor::from_data(data, (&device, DType::F32)),
            prompts: prompts(&["cat", "dog"]),
        };
        head.save(&dir.path().join(HEAD)).unwrap();
        for place in [dir.path().to_owned(), dir.path().join("model.safetensors")] {
            let found = Head::beside(&place, &device).unwrap().unwrap();
            assert_eq!(found.prompts, head.prompts);
            assert_eq!(host(found.weight).unwrap(), values);
        }
        let path = Path::new("set");
        let check = |names: &[&str]| head.check(&prompts(names).classes, path);
        assert!(check(&["cat", "dog"]).is_ok());
        let error = check(&["cat", "fox"]).unwrap_err().to_string();
        assert!(
            error.contains("`fox`") && error.contains("`dog`"),
            "{error}"
        );
        assert!(check(&["cat"]).is_err());
    }

    #[test]
    fn another_file_is_no_classifier() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HEAD);
        let tensor = TensorOut::f32("weight", &[1, 1], &[1.0]);
        write_safetensors(&path, [tensor], &BTreeMap::new()).unwrap();
        let error = Head::read(&path, &Device::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("head.safetensors") && error.contains("names"),
            "{error}"
        );
    }
}
