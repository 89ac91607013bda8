//! Augmentation of the training pictures.

use clap::{ArgAction, Args};
use serde_json::Value;

use crate::args::literal;
use crate::error::{CliError, Result};
use crate::output::warn;

/// Settings that only timm's augmentation has, and those that only OpenCLIP's own has.
const TIMM: [&str; 3] = ["ratio", "re_prob", "re_count"];
const OWN: [&str; 2] = ["color_jitter_prob", "gray_scale_prob"];
/// timm's default share of the picture, which `scale=None` asks for.
const TIMM_SCALE: [f64; 2] = [0.08, 1.0];

/// Augmentation of the training pictures.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentArgs {
    /// Settings as key=value: scale, color_jitter, color_jitter_prob, gray_scale_prob, use_timm, ratio, re_prob, re_count
    ///
    /// scale=(0.9,1.0) is the share of the picture that a random cut keeps, color_jitter=(0.32,0.32,0.32,0.08) the
    /// strength of changes of brightness, contrast, saturation and hue; color_jitter_prob and gray_scale_prob say how often
    /// colours change and vanish. use_timm=True augments as timm does: color_jitter changes every picture, ratio=(0.75,1.33)
    /// is the cut's width over its height, and with probability re_prob up to re_count rectangles become noise.
    #[arg(long, value_name = "KEY=VALUE", num_args = 0.., action = ArgAction::Set)]
    pub aug_cfg: Vec<String>,
    /// Decode JPEGs no further than the training picture needs: faster, and nearly the same pixels
    ///
    /// What lies below the random cut is not read, large pictures are decoded at 1/2, 1/4 or 1/8 of their size where the cut stays
    /// half as large again as the training picture, and colours are not enlarged before they are resampled. Pixels differ by less
    /// than 1/255 in the mean; damage below the cut goes unseen. Progressive JPEGs, CMYK and other formats are decoded in full, and
    /// so are validation pictures.
    #[arg(long)]
    pub fast_decode: bool,
}

/// What `--aug-cfg` sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Augment {
    /// Whether timm augments.
    pub use_timm: bool,
    /// Least and greatest share of the picture's area.
    pub scale: Option<[f64; 2]>,
    /// Least and greatest ratio of the cut's width to its height.
    pub ratio: Option<[f64; 2]>,
    /// Brightness, contrast, saturation, hue.
    pub color_jitter: Option<[f64; 4]>,
    /// How often colours change.
    pub color_jitter_prob: Option<f64>,
    /// How often colours vanish.
    pub gray_scale_prob: Option<f64>,
    /// How often rectangles become noise.
    pub re_prob: Option<f64>,
    /// Most rectangles that do.
    pub re_count: Option<usize>,
}

impl AugmentArgs {
    /// Reads the settings. One of the other augmentation has no effect, which is said; one that OpenCLIP does not have is an
    /// error, as it is there.
    pub fn parse(&self) -> Result<Augment> {
        let mut augment = Augment::default();
        let mut given = Vec::new();
        for setting in self.aug_cfg.iter().filter(|setting| !setting.is_empty()) {
            let (key, value) = literal::setting("--aug-cfg", setting)?;
            given.push((key, setting, value));
        }
        augment.use_timm = given
            .iter()
            .rev()
            .find(|(key, ..)| *key == "use_timm")
            .is_some_and(|(.., value)| {
                !matches!(value, Value::Null | Value::Bool(false)) && *value != 0
            });
        let (foreign, advice) = match augment.use_timm {
            true => (&OWN[..], "timm's augmentation does not have it"),
            false => (&TIMM[..], "it is timm's: add use_timm=True"),
        };
        for (key, setting, value) in given {
            match (key, &value) {
                ("use_timm", _) => {}
                ("scale", Value::Null) => augment.scale = augment.use_timm.then_some(TIMM_SCALE),
                ("scale", _) => augment.scale = Some(numbers(setting, &value)?),
                ("ratio", Value::Null) => augment.ratio = None,
                ("ratio", _) => augment.ratio = Some(numbers(setting, &value)?),
                ("color_jitter", Value::Null) => augment.color_jitter = None,
                ("color_jitter", _) => augment.color_jitter = Some(jitter(setting, &value)?),
                ("color_jitter_prob", _) => augment.color_jitter_prob = number(setting, &value)?,
                ("gray_scale_prob", _) => augment.gray_scale_prob = number(setting, &value)?,
                ("re_prob", _) => augment.re_prob = number(setting, &value)?,
                ("re_count", Value::Null) => augment.re_count = None,
                ("re_count", _) => augment.re_count = Some(count(setting, &value)?),
                ("auto_augment", _) => {
                    return Err(CliError::Usage(format!(
                        "--aug-cfg {setting}: timm's auto_augment is not built, and OpenCLIP's aug_cfg does not have it"
                    )));
                }
                _ => {
                    return Err(CliError::Usage(format!(
                        "--aug-cfg {setting}: unknown; known are use_timm, scale, color_jitter, {}, {}",
                        OWN.join(", "),
                        TIMM.join(", ")
                    )));
                }
            }
            if foreign.contains(&key) && !value.is_null() {
                warn(format!("--aug-cfg {setting} has no effect: {advice}"));
            }
        }
        Ok(augment)
    }
}

/// One strength for brightness, contrast and saturation, or each with the hue's.
fn jitter(setting: &str, value: &Value) -> Result<[f64; 4]> {
    if let Ok([all]) = numbers(setting, value) {
        return Ok([all, all, all, 0.0]);
    }
    if let Ok([brightness, contrast, saturation]) = numbers(setting, value) {
        return Ok([brightness, contrast, saturation, 0.0]);
    }
    numbers(setting, value)
}

/// A whole number of at least 1.
fn count(setting: &str, value: &Value) -> Result<usize> {
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count.filter(|count| *count > 0).ok_or_else(|| {
        CliError::Usage(format!(
            "--aug-cfg {setting}: expected a number of at least 1"
        ))
    })
}

fn number(setting: &str, value: &Value) -> Result<Option<f64>> {
    if value.is_null() {
        return Ok(None);
    }
    numbers(setting, value).map(|[number]| Some(number))
}

/// A list of so many numbers, or a number by itself.
fn numbers<const N: usize>(setting: &str, value: &Value) -> Result<[f64; N]> {
    let values: Option<Vec<f64>> = match value {
        Value::Array(values) => values.iter().map(Value::as_f64).collect(),
        value => value.as_f64().map(|number| vec![number]),
    };
    values
        .and_then(|values| values.try_into().ok())
        .ok_or_else(|| CliError::Usage(format!("--aug-cfg {setting}: expected {N} number(s)")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(settings: &[&str]) -> Result<Augment> {
        let aug_cfg = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        AugmentArgs {
            aug_cfg,
            fast_decode: false,
        }
        .parse()
    }

    #[test]
    fn python_literals() {
        let augment = parse(&[
            "scale=(0.4, 1.0)",
            "color_jitter=(0.32,0.32,0.32,0.08)",
            "color_jitter_prob=0.8",
            "gray_scale_prob=0.2",
            "ratio=None",
            "use_timm=False",
        ]);
        let expected = Augment {
            scale: Some([0.4, 1.0]),
            color_jitter: Some([0.32, 0.32, 0.32, 0.08]),
            color_jitter_prob: Some(0.8),
            gray_scale_prob: Some(0.2),
            ..Augment::default()
        };
        assert_eq!(augment.unwrap(), expected);
    }

    #[test]
    fn timms_settings() {
        let augment = parse(&[
            "use_timm=True",
            "scale=None",
            "ratio=(0.5,2)",
            "color_jitter=0.4",
            "re_prob=0.25",
            "re_count=3",
        ]);
        let expected = Augment {
            use_timm: true,
            scale: Some([0.08, 1.0]),
            ratio: Some([0.5, 2.0]),
            color_jitter: Some([0.4, 0.4, 0.4, 0.0]),
            re_prob: Some(0.25),
            re_count: Some(3),
            ..Augment::default()
        };
        assert_eq!(augment.unwrap(), expected);
        assert!(!parse(&["use_timm=0"]).unwrap().use_timm);
    }

    #[test]
    fn malformed_settings_are_named() {
        for setting in [
            "scale",
            "scale=0.9",
            "scale=a=b",
            "gray_scale_prob=often",
            "ratio=1",
            "re_prob=(0.1,0.2)",
            "re_count=0",
            "re_count=1.5",
            "auto_augment=rand-m9-mstd0.5-inc1",
            "hflip=0.5",
        ] {
            let message = parse(&[setting]).unwrap_err().message();
            assert!(message.contains(setting), "{message}");
        }
    }
}
