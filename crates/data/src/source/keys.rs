//! Which members of a shard's samples are used: `--image-key`, `--text-key` and `--json-text-key`.

use rand::Rng;
use rand::rngs::StdRng;
use twox_hash::XxHash3_128;

use super::Order;
use super::order::Stream;
use crate::error::DataError;

/// Suffixes of images; the earliest wins when a sample has several.
pub const IMAGE_KEY: &str = "jpg;png;jpeg;webp";
/// Suffixes of captions where none are asked for.
const TEXT_KEY: [&str; 2] = ["txt", JSON];
/// The suffix of members that hold a caption among other things.
const JSON: &str = "json";
/// The field of a `.json` that img2dataset writes.
const FIELD: &str = "caption";

/// What is asked for, as the flags have it: names separated by `;`, of which the earliest wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyOptions {
    /// `--image-key`: suffixes of images. `None`: [`IMAGE_KEY`].
    pub image_key: Option<String>,
    /// `--text-key`: suffixes of captions. `None`: `txt`, else the `caption` of a `.json`.
    pub text_key: Option<String>,
    /// `--json-text-key`: fields of the `.json` in place of `text_key`.
    pub json_text_key: Option<String>,
    /// `--json-text-key-probs`: weights by which the fields are drawn; fields beyond them are taken where no other has a text.
    pub json_text_key_probs: Vec<f64>,
    /// Samples without caption are of no use.
    pub needs_caption: bool,
    /// What the `.json` of a sample says goes along with it.
    pub carried: bool,
}

/// The members that make a sample, and where its caption is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Keys {
    images: Vec<String>,
    captions: Vec<String>,
    fields: Vec<String>,
    weights: Vec<f64>,
    /// Captions were asked for by a flag; then blank ones count as missing, as on OpenCLIP's main branch.
    is_asked: bool,
    needs_caption: bool,
    carried: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            images: split(IMAGE_KEY).collect(),
            captions: TEXT_KEY.map(str::to_owned).to_vec(),
            fields: vec![FIELD.to_owned()],
            weights: Vec::new(),
            is_asked: false,
            needs_caption: false,
            carried: false,
        }
    }
}

impl Keys {
    /// # Errors
    /// When a flag names nothing, or the weights fit no fields.
    pub fn new(options: &KeyOptions) -> Result<Self, DataError> {
        let mut keys = Self {
            needs_caption: options.needs_caption,
            carried: options.carried,
            ..Self::default()
        };
        // The empty text is no answer to either, as in OpenCLIP.
        let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        if let Some(text) = given(&options.image_key) {
            keys.images = suffixes("--image-key", &text)?;
        }
        let probs = &options.json_text_key_probs;
        let fields = given(&options.json_text_key);
        if let Some(text) = &fields {
            keys.is_asked = true;
            keys.captions = vec![JSON.to_owned()];
            keys.fields = named("--json-text-key", text, split(text).collect())?;
            keys.weights = weights(probs, keys.fields.len())?;
        } else if let Some(text) = given(&options.text_key) {
            keys.is_asked = true;
            keys.captions = suffixes("--text-key", &text)?;
            if keys.captions.iter().any(|suffix| suffix == JSON) {
                let expected = "suffixes of texts; --json-text-key names the field of a .json";
                return Err(setting("--text-key", &text, expected));
            }
        }
        if fields.is_none() && !probs.is_empty() {
            let found = format!("{probs:?}");
            let expected = "to go with --json-text-key";
            return Err(setting("--json-text-key-probs", &found, expected));
        }
        Ok(keys)
    }

    /// The place of `suffix` among those of images.
    pub fn image(&self, suffix: &str) -> Option<usize> {
        self.images.iter().position(|known| known == suffix)
    }

    /// The place of `suffix` among those of captions.
    pub fn caption(&self, suffix: &str) -> Option<usize> {
        self.captions.iter().position(|known| known == suffix)
    }

    /// Whether the member of that suffix says what goes along with its sample.
    pub fn is_carried(&self, suffix: &str) -> bool {
        self.carried && suffix == JSON
    }

    /// What the caption with the suffix at `place` is called in messages.
    pub fn caption_name(&self, place: usize) -> String {
        match (place, self.captions.get(place)) {
            (1.., Some(suffix)) => format!("caption in .{suffix}"),
            _ => "caption".to_owned(),
        }
    }

    /// What tells these keys from others; nothing for those that are used where none are asked for.
    pub fn mark(&self) -> Option<String> {
        let usual = Self {
            needs_caption: self.needs_caption,
            carried: self.carried,
            ..Self::default()
        };
        let Self {
            images,
            captions,
            fields,
            weights,
            ..
        } = self;
        (*self != usual).then(|| format!("{images:?}{captions:?}{fields:?}{weights:?}"))
    }

    /// The caption in the bytes of a member with the suffix at `place`; `None` where there is none.
    ///
    /// # Errors
    /// When it is not UTF-8, or the `.json` malformed.
    pub fn read(
        &self,
        place: usize,
        bytes: Vec<u8>,
        draw: &Draw,
        key: &str,
    ) -> Result<Option<String>, String> {
        if self.captions.get(place).is_none_or(|suffix| suffix != JSON) {
            let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
            return Ok(Some(text).filter(|text| !self.is_asked || !text.trim().is_empty()));
        }
        let value = super::json_caption::parse(&bytes)?;
        if !self.is_asked {
            return match value.get(FIELD) {
                None | Some(serde_json::Value::Null) => Ok(None),
                Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
                Some(_) => Err("the caption in its .json is not a text".to_owned()),
            };
        }
        let text = |field: &str| {
            let text = value.get(field)?.as_str()?.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let mut fields = self.fields.iter().map(String::as_str);
        Ok(match self.weights.is_empty() {
            true => fields.find_map(text),
            false => self.drawn(&mut draw.rng(key)).into_iter().find_map(text),
        })
    }

    /// The fields in an order drawn without replacement by their weights; those without weight follow as they stand.
    ///
    /// The `w`-th root of a uniform number, the greatest first, is such an order (Efraimidis and Spirakis, 2006).
    fn drawn(&self, rng: &mut StdRng) -> Vec<&str> {
        let mut fields: Vec<(f64, &str)> = self
            .fields
            .iter()
            .zip(&self.weights)
            .map(|(field, &weight)| match weight > 0.0 {
                true => (rng.random::<f64>().ln() / weight, field.as_str()),
                false => (f64::NEG_INFINITY, field.as_str()),
            })
            .collect();
        fields.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        fields.into_iter().map(|(_, field)| field).collect()
    }

    /// What there is to say of a sample without an image, which has `members`.
    pub fn no_image(&self, members: &str) -> String {
        format!("no {}; members: {members}", self.images.join(", "))
    }

    /// Whether a sample without caption is of no use.
    pub fn needs_caption(&self) -> bool {
        self.needs_caption
    }

    /// What there is to say of a sample without a caption, which has `members`.
    pub fn no_caption(&self, members: &str) -> String {
        let place = match self.captions == [JSON] {
            true => format!("under {} of its .json", self.fields.join(", ")),
            false => format!("in {}", self.captions.join(", ")),
        };
        format!("no text {place}; members: {members}; those of a sample have to stand together")
    }
}

/// What the choice among several captions of a sample depends on, beside its key: nothing that another number of workers or a
/// resumed run would change.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Seed, epoch and rank.
    pub order: Order,
    /// Pass of the epoch.
    pub pass: u64,
    /// Which of the pass's shards it is, counted from zero.
    pub shard: u64,
}

impl Draw {
    fn rng(&self, key: &str) -> StdRng {
        let place = [self.pass.to_le_bytes(), self.shard.to_le_bytes()].concat();
        let index = XxHash3_128::oneshot(&[&place, key.as_bytes()].concat());
        self.order.rng(Stream::Caption, index as u64)
    }
}

/// The names in a list, trimmed.
fn split(text: &str) -> impl Iterator<Item = String> {
    let names = text.split(';').map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned)
}

fn suffixes(flag: &'static str, text: &str) -> Result<Vec<String>, DataError> {
    let suffix = |name: String| name.trim_start_matches('.').to_lowercase();
    named(flag, text, split(text).map(suffix).collect())
}

fn named(flag: &'static str, text: &str, names: Vec<String>) -> Result<Vec<String>, DataError> {
    match names.is_empty() {
        true => Err(setting(flag, text, "names separated by ;")),
        false => Ok(names),
    }
}

/// A weight for each field, 0 beyond those that are given.
fn weights(given: &[f64], fields: usize) -> Result<Vec<f64>, DataError> {
    let is_good = given
        .iter()
        .all(|weight| weight.is_finite() && *weight >= 0.0);
    if !is_good || given.len() > fields {
        let expected = "at most one number for each field of --json-text-key, none negative";
        let found = format!("{given:?}");
        return Err(setting("--json-text-key-probs", &found, expected));
    }
    let mut weights = given.to_vec();
    if !given.is_empty() {
        weights.resize(fields, 0.0);
    }
    Ok(weights)
}

fn setting(name: &'static str, found: &str, expected: &'static str) -> DataError {
    DataError::Setting {
        name,
        found: format!("{found:?}"),
        expected,
    }
}

#[cfg(test)]
mod tests;
