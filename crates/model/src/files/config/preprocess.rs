//! `preprocess_cfg` of OpenCLIP: how a picture becomes the image tower's input.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Mean of the OpenAI CLIP training pictures, RGB in `[0, 1]`.
#[allow(clippy::excessive_precision)] // As published.
pub const OPENAI_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of the OpenAI CLIP training pictures, RGB in `[0, 1]`.
#[allow(clippy::excessive_precision)] // As published.
pub const OPENAI_STD: [f32; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// Resampling filter, with Pillow's definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Cubic convolution with a = −0.5.
    #[default]
    Bicubic,
    /// Triangle filter.
    Bilinear,
    /// One of the two for each picture where timm augments, and bicubic everywhere else.
    Random,
}

/// What becomes of a picture that is not square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// Shorter side to the target, then the centre is cut out.
    #[default]
    Shortest,
    /// Longer side to the target, then padded with the fill colour.
    Longest,
    /// Both sides to the target, the aspect ratio is lost.
    Squash,
}

/// How a picture becomes the image tower's input, apart from its size, which the model fixes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreprocessConfig {
    /// Subtracted from each channel after scaling to `[0, 1]`.
    pub mean: [f32; 3],
    /// Divides each channel after the mean is subtracted.
    pub std: [f32; 3],
    /// Resampling filter.
    pub interpolation: Interpolation,
    /// Treatment of the aspect ratio.
    pub resize_mode: ResizeMode,
}

impl Default for PreprocessConfig {
    fn default() -> Self {
        Self {
            mean: OPENAI_MEAN,
            std: OPENAI_STD,
            interpolation: Interpolation::default(),
            resize_mode: ResizeMode::default(),
        }
    }
}

impl PreprocessConfig {
    /// What all releases of SigLIP see.
    pub fn siglip() -> Self {
        Self {
            mean: [0.5; 3],
            std: [0.5; 3],
            interpolation: Interpolation::Bicubic,
            resize_mode: ResizeMode::Squash,
        }
    }

    /// Reads OpenCLIP's keys; one that is absent or null stands for its default. `size` is the model's, and a key that OpenCLIP does
    /// not know says nothing.
    ///
    /// # Errors
    /// The key with a value that makes no preprocessing, what it is, and what was expected.
    pub fn read(keys: &Map<String, Value>) -> Result<Self, String> {
        let key = |name: &str| keys.get(name).filter(|value| !value.is_null());
        let own = Self::default();
        let config = Self {
            mean: channels("mean", key("mean"), own.mean)?,
            std: channels("std", key("std"), own.std)?,
            interpolation: word(
                "interpolation",
                key("interpolation"),
                "bicubic, bilinear or random",
            )?,
            resize_mode: word(
                "resize_mode",
                key("resize_mode"),
                "shortest, longest or squash",
            )?,
        };
        if config.std.iter().any(|value| *value <= 0.0) {
            return Err(unfit("std", key("std"), "numbers above 0"));
        }
        if key("mode").is_some_and(|mode| mode != "RGB") {
            return Err(unfit("mode", key("mode"), "RGB"));
        }
        let pads = config.resize_mode == ResizeMode::Longest;
        if pads && key("fill_color").is_some_and(|fill| fill.as_f64() != Some(0.0)) {
            return Err(unfit("fill_color", key("fill_color"), "0"));
        }
        Ok(config)
    }
}

fn unfit(name: &str, value: Option<&Value>, expected: &str) -> String {
    let found: String = value.map_or_else(String::new, Value::to_string);
    let found: String = found.chars().take(60).collect();
    format!("preprocess_cfg.{name}: {found}, expected {expected}")
}

/// Three numbers, or one for all.
fn channels(name: &str, value: Option<&Value>, own: [f32; 3]) -> Result<[f32; 3], String> {
    let Some(found) = value else {
        return Ok(own);
    };
    let number = |value: &Value| value.as_f64().map(|value| value as f32);
    let numbers: Option<Vec<f32>> = match found {
        Value::Array(values) => values.iter().map(number).collect(),
        one => number(one).map(|one| vec![one; 3]),
    };
    match numbers.as_deref() {
        Some(&[r, g, b]) if [r, g, b].iter().all(|value| value.is_finite()) => Ok([r, g, b]),
        _ => Err(unfit(name, value, "three numbers")),
    }
}

/// One of a few words.
fn word<T: Default + for<'de> Deserialize<'de>>(
    name: &str,
    value: Option<&Value>,
    expected: &str,
) -> Result<T, String> {
    match value {
        None => Ok(T::default()),
        Some(found) => T::deserialize(found).map_err(|_| unfit(name, value, expected)),
    }
}

impl<'de> Deserialize<'de> for PreprocessConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(json: &str) -> Result<PreprocessConfig, String> {
        PreprocessConfig::read(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn keys_that_are_absent_or_null_have_their_defaults() {
        assert_eq!(read("{}").unwrap(), PreprocessConfig::default());
        let keys = r#"{"size": [224, 224], "mode": "RGB", "mean": null, "fill_color": 0, "interpolation": null}"#;
        assert_eq!(read(keys).unwrap(), PreprocessConfig::default());
        let random = read(r#"{"interpolation": "random"}"#).unwrap();
        assert_eq!(random.interpolation, Interpolation::Random);
        let found = read(r#"{"mean": 0.5, "std": [0.5, 0.5, 0.5], "resize_mode": "squash"}"#);
        assert_eq!(found.unwrap(), PreprocessConfig::siglip());
    }

    #[test]
    fn a_value_that_makes_no_preprocessing_is_named_by_its_key() {
        for (keys, words) in [
            (r#"{"mean": [0.5, 0.5]}"#, "preprocess_cfg.mean: [0.5,0.5]"),
            (r#"{"mean": "0.5"}"#, "preprocess_cfg.mean"),
            (r#"{"std": [0.5, 0.5, 0]}"#, "preprocess_cfg.std"),
            (r#"{"std": [[0.5], 0.5, 0.5]}"#, "expected three numbers"),
            (
                r#"{"interpolation": "lanczos"}"#,
                "bicubic, bilinear or random",
            ),
            (r#"{"interpolation": 3}"#, "preprocess_cfg.interpolation: 3"),
            (r#"{"resize_mode": "crop"}"#, "shortest, longest or squash"),
            (r#"{"mode": "L"}"#, "preprocess_cfg.mode"),
            (
                r#"{"resize_mode": "longest", "fill_color": 127}"#,
                "preprocess_cfg.fill_color: 127",
            ),
        ] {
            let error = read(keys).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
