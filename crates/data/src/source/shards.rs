//! Lists of webdataset shards: brace expansion, several sources with weights, and the number of samples in them.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use super::braces;
use crate::error::DataError;
use crate::storage::{Patience, Place, Watch, mask};

/// Longest list of shards, and longest file of their sizes.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// The shards of a training or validation set.
#[derive(Clone, Debug, PartialEq)]
pub struct Shards {
    /// Every shard, in the order of the list.
    pub places: Vec<Place>,
    /// One weight per shard, for sampling with replacement; `None` samples shards equally.
    pub weights: Option<Vec<f64>>,
    /// The list as the user wrote it, without secrets.
    pub pattern: String,
}

impl Shards {
    /// Expands `A::B`, each part with braces, as OpenCLIP's `expand_urls`; `@FILE` is a file with one shard on each line. `factors`
    /// (`--train-data-upsampling-factors`, separated by `::` too) gives every shard of a part the part's weight.
    ///
    /// # Errors
    /// When braces are unbalanced, factors do not match the parts, a list cannot be read, or a name is none of a [`Place`].
    pub fn expand(pattern: &str, factors: Option<&str>) -> Result<Self, DataError> {
        Self::of_parts(pattern, factors, |part| {
            let names = names(part)?.into_iter();
            names.map(|name| Place::parse(&name)).collect()
        })
    }

    /// The shards that `find` says each part of `A::B` stands for, with the weights of `factors`.
    pub(super) fn of_parts(
        pattern: &str,
        factors: Option<&str>,
        find: impl Fn(&str) -> Result<Vec<Place>, DataError>,
    ) -> Result<Self, DataError> {
        let parts = parts(pattern);
        let factors = factors
            .map(|factors| parse_factors(factors, parts.len()))
            .transpose()?;
        let mut places = Vec::new();
        let mut weights = Vec::new();
        for (at, part) in parts.into_iter().enumerate() {
            let found = find(part)?;
            if let Some(factors) = &factors {
                weights.extend(std::iter::repeat_n(factors[at], found.len()));
            }
            places.extend(found);
        }
        Ok(Self {
            places,
            weights: factors.map(|_| weights),
            pattern: mask(pattern),
        })
    }

    /// A list of shards as it stands, nothing expanded.
    pub fn list(paths: Vec<PathBuf>) -> Self {
        let pattern = format!("a list of {} shards", paths.len());
        Self {
            places: paths.into_iter().map(Place::File).collect(),
            weights: None,
            pattern,
        }
    }

    /// How many samples the shards hold by `sizes.json` (shard name → count) or `__len__` (one number) beside the
    /// first shard; `None` when neither file is there.
    ///
    /// # Errors
    /// When the file is malformed or does not name a shard.
    pub fn num_samples(&self) -> Result<Option<u64>, DataError> {
        let Some(first) = self.places.first() else {
            return Ok(None);
        };
        if let Some(sizes) = self.sizes()? {
            return Ok(Some(
                sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)),
            ));
        }
        let Some((place, text)) = beside(first, "__len__")? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&text);
        match text.trim().parse() {
            Ok(samples) => Ok(Some(samples)),
            Err(_) => Err(DataError::ShardSizes {
                path: place,
                reason: format!("expected one number, found {text:?}"),
            }),
        }
    }

    /// How many samples each shard holds by `sizes.json`; `None` when it is not there.
    ///
    /// # Errors
    /// When the file is malformed or does not name a shard.
    pub fn sizes(&self) -> Result<Option<Vec<u64>>, DataError> {
        let Some(first) = self.places.first() else {
            return Ok(None);
        };
        let Some((path, text)) = beside(first, "sizes.json")? else {
            return Ok(None);
        };
        let fail = |reason: String| DataError::ShardSizes {
            path: path.clone(),
            reason,
        };
        let sizes: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
        let of_shard = |shard: &Place| {
            let name = shard.file_name();
            let size = sizes
                .get(&name)
                .ok_or_else(|| fail(format!("no entry for {name}")))?;
            // OpenCLIP takes numbers and numbers in quotes.
            let size = size.as_u64().or_else(|| size.as_str()?.trim().parse().ok());
            size.ok_or_else(|| fail(format!("the entry for {name} is not a number of samples")))
        };
        self.places
            .iter()
            .map(of_shard)
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

/// The parts of `A::B`. Two colons in the address of a host, as in `http://[::1]/a.tar`, part nothing.
pub(super) fn parts(pattern: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in pattern.match_indices("::") {
        let part = &pattern[start..at.max(start)];
        let is_inside = part
            .rfind("://[")
            .is_some_and(|host| !part[host..].contains(']'));
        if at >= start && !is_inside {
            parts.push(part);
            start = at + 2;
        }
    }
    parts.push(&pattern[start..]);
    parts
}

/// What one part of a list stands for: the lines of `@FILE`, or a name with braces.
pub(super) fn names(part: &str) -> Result<Vec<String>, DataError> {
    match part.strip_prefix('@') {
        Some(list) => lines(list),
        None => braces::expand(part),
    }
}

/// The lines of a list of shards; empty ones are none.
fn lines(list: &str) -> Result<Vec<String>, DataError> {
    let fail = |reason: String| DataError::ShardList {
        path: mask(list),
        reason,
    };
    let text = Place::parse(list)?.read(MAX_LIST_BYTES, Patience::default(), Watch::default());
    let text = String::from_utf8(text.map_err(|error| fail(error.to_string()))?);
    let text = text.map_err(|error| fail(error.to_string()))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let lines: Vec<String> = lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    match lines.is_empty() {
        true => Err(fail("it has no line that names a shard".into())),
        false => Ok(lines),
    }
}

/// Name and content of the file `name` beside a shard, if there is one. A store that keeps to itself what it has answers as if
/// access were denied.
fn beside(shard: &Place, name: &str) -> Result<Option<(String, Vec<u8>)>, DataError> {
    let Some(place) = shard.sibling(name) else {
        return Ok(None);
    };
    match place.read(MAX_LIST_BYTES, Patience::default(), Watch::default()) {
        Ok(bytes) => Ok(Some((place.to_string(), bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && place.as_file().is_none() =>
        {
            Ok(None)
        }
        Err(error) => Err(DataError::ShardSizes {
            path: place.to_string(),
            reason: error.to_string(),
        }),
    }
}

/// One finite number that is not negative for each part, not all of them zero.
pub(super) fn parse_factors(factors: &str, parts: usize) -> Result<Vec<f64>, DataError> {
    let fail = || DataError::UpsamplingFactors {
        factors: factors.to_owned(),
        parts,
    };
    let values: Option<Vec<f64>> = factors
        .split("::")
        .map(|factor| factor.trim().parse().ok())
        .collect();
    let values = values.ok_or_else(fail)?;
    let usable = values
        .iter()
        .all(|factor| factor.is_finite() && *factor >= 0.0)
        && (f64::MIN_POSITIVE..=f64::MAX).contains(&values.iter().sum());
    if values.len() == parts && usable {
        Ok(values)
    } else {
        Err(fail())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// OpenCLIP's `test_num_shards.py`.
    #[test]
    fn number_of_shards() {
        for (pattern, expected) in [
            ("shard.tar", 1),
            ("shard_{000..000}.tar", 1),
            ("shard_{000..009}.tar", 10),
            ("shard_{000..009}_{000..009}.tar", 100),
            ("shard.tar::shard_{000..009}.tar", 11),
            ("shard_{000..009}.tar::shard_{000..009}.tar", 20),
        ] {
            assert_eq!(
                Shards::expand(pattern, None).unwrap().places.len(),
                expected,
                "{pattern}"
            );
        }
        assert_eq!(Shards::list(vec!["shard.tar".into()]).places.len(), 1);
        assert_eq!(
            Shards::list(vec!["a.tar".into(), "b.tar".into()])
                .places
                .len(),
            2
        );
    }

    #[test]
    fn weights_are_per_shard_of_a_part() {
        let shards = Shards::expand("a{0..1}::b", Some("2::0.5")).unwrap();
        assert_eq!(shards.weights.unwrap(), [2.0, 2.0, 0.5]);
        for factors in ["1", "1::2::3", "1::x", "1::-1", "0::0", "1::inf"] {
            let error = Shards::expand("a::b", Some(factors)).unwrap_err();
            assert!(error.to_string().contains(factors), "{error}");
        }
    }

    #[test]
    fn parts_of_lists() {
        for (pattern, expected) in [
            ("a", &["a"][..]),
            ("a::b", &["a", "b"]),
            ("http://[::1]:80/a.tar::b", &["http://[::1]:80/a.tar", "b"]),
            ("a::", &["a", ""]),
        ] {
            assert_eq!(parts(pattern), expected);
        }
        let names = |pattern: &str| -> Vec<String> {
            let shards = Shards::expand(pattern, None).unwrap();
            shards.places.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            names("pipe:aws s3 cp s3://b/{00..02}.tar -::gs://b/a.tar"),
            [
                "pipe:aws s3 cp s3://b/00.tar -",
                "pipe:aws s3 cp s3://b/01.tar -",
                "pipe:aws s3 cp s3://b/02.tar -",
                "gs://b/a.tar"
            ]
        );
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list.txt");
        std::fs::write(&list, "a.tar\r\n\n  s3://b/{c}.tar\n").unwrap();
        let pattern = format!("@{}::x{{1..2}}.tar", list.display());
        assert_eq!(
            names(&pattern),
            ["a.tar", "s3://b/%7Bc%7D.tar", "x1.tar", "x2.tar"]
        );
        let weighted = Shards::expand(&pattern, Some("1::3")).unwrap();
        assert_eq!(weighted.weights.unwrap(), [1.0, 1.0, 3.0, 3.0]);
        std::fs::write(&list, "\n").unwrap();
        let error = Shards::expand(&pattern, None).unwrap_err().to_string();
        assert!(error.contains("list.txt"), "{error}");
    }

    #[test]
    fn sizes() {
        let dir = tempfile::tempdir().unwrap();
        let pattern = format!("{}/{{a,b}}.tar", dir.path().display());
        let shards = Shards::expand(&pattern, None).unwrap();
        assert_eq!(shards.num_samples().unwrap(), None);
        std::fs::write(dir.path().join("__len__"), "17\n").unwrap();
        assert_eq!(shards.num_samples().unwrap(), Some(17));
        std::fs::write(dir.path().join("__len__"), "many").unwrap();
        assert!(shards.num_samples().is_err());
        // sizes.json goes before __len__, and only the listed shards count.
        std::fs::write(
            dir.path().join("sizes.json"),
            r#"{"a.tar": 3, "b.tar": "4", "c.tar": 100}"#,
        )
        .unwrap();
        assert_eq!(shards.num_samples().unwrap(), Some(7));
        std::fs::write(dir.path().join("sizes.json"), r#"{"a.tar": 3}"#).unwrap();
        let error = shards.num_samples().unwrap_err().to_string();
        assert!(
            error.contains("b.tar") && error.contains("sizes.json"),
            "{error}"
        );
    }
}
