//! Lists of webdataset shards: brace expansion, several sources with weights, and the number of samples in them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::braces;
use crate::error::DataError;

/// The shards of a training or validation set.
#[derive(Clone, Debug, PartialEq)]
pub struct Shards {
    /// Every shard, in the order of the list.
    pub paths: Vec<PathBuf>,
    /// One weight per shard, for sampling with replacement; `None` samples shards equally.
    pub weights: Option<Vec<f64>>,
    /// The list as the user wrote it.
    pub pattern: String,
}

impl Shards {
    /// Expands `A::B`, each part with braces, as OpenCLIP's `expand_urls`. `factors`
    /// (`--train-data-upsampling-factors`, separated by `::` too) gives every shard of a part the part's weight.
    ///
    /// # Errors
    /// When braces are unbalanced, factors do not match the parts, or a shard is not a local file name.
    pub fn expand(pattern: &str, factors: Option<&str>) -> Result<Self, DataError> {
        let parts: Vec<&str> = pattern.split("::").collect();
        let factors = factors
            .map(|factors| parse_factors(factors, parts.len()))
            .transpose()?;
        let mut paths = Vec::new();
        let mut weights = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            for name in braces::expand(part)? {
                paths.push(local_path(&name)?);
                weights.extend(factors.as_ref().map(|factors| factors[at]));
            }
        }
        Ok(Self {
            paths,
            weights: factors.map(|_| weights),
            pattern: pattern.to_owned(),
        })
    }

    /// A list of shards as it stands, nothing expanded.
    pub fn list(paths: Vec<PathBuf>) -> Self {
        let pattern = format!("a list of {} shards", paths.len());
        Self {
            paths,
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
        let dir = self
            .paths
            .first()
            .and_then(|path| path.parent())
            .unwrap_or(Path::new(""));
        let sizes = dir.join("sizes.json");
        if sizes.exists() {
            return self.sum_of_sizes(&sizes).map(Some);
        }
        let len = dir.join("__len__");
        if !len.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&len).map_err(|source| DataError::Io {
            path: len.clone(),
            source,
        })?;
        match text.trim().parse() {
            Ok(samples) => Ok(Some(samples)),
            Err(_) => Err(DataError::ShardSizes {
                path: len,
                reason: format!("expected one number, found {text:?}"),
            }),
        }
    }

    fn sum_of_sizes(&self, path: &Path) -> Result<u64, DataError> {
        let fail = |reason: String| DataError::ShardSizes {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read(path).map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        let sizes: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
        let mut sum = 0_u64;
        for shard in &self.paths {
            let name = shard.file_name().unwrap_or_default().to_string_lossy();
            let size = sizes
                .get(name.as_ref())
                .ok_or_else(|| fail(format!("no entry for {name}")))?;
            // OpenCLIP takes numbers and numbers in quotes.
            let size = size.as_u64().or_else(|| size.as_str()?.trim().parse().ok());
            let total = size.and_then(|size| sum.checked_add(size));
            sum = total
                .ok_or_else(|| fail(format!("the entry for {name} is not a number of samples")))?;
        }
        Ok(sum)
    }
}

fn parse_factors(factors: &str, parts: usize) -> Result<Vec<f64>, DataError> {
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

/// The file that a shard name stands for: a path, or `file:` and a path.
fn local_path(name: &str) -> Result<PathBuf, DataError> {
    let scheme = name
        .split_once(':')
        .map(|(scheme, rest)| (scheme, rest.trim_start_matches("//")));
    match scheme {
        Some(("file", rest)) => Ok(rest.into()),
        // A single letter is a drive, and a file name may well hold a colon further on.
        Some((scheme, _))
            if scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            Err(DataError::UnsupportedScheme {
                scheme: scheme.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => Ok(name.into()),
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
                Shards::expand(pattern, None).unwrap().paths.len(),
                expected,
                "{pattern}"
            );
        }
        assert_eq!(Shards::list(vec!["shard.tar".into()]).paths.len(), 1);
        assert_eq!(
            Shards::list(vec!["a.tar".into(), "b.tar".into()])
                .paths
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
    fn only_local_names() {
        assert_eq!(
            Shards::expand("file:/x/a.tar::file:///x/b.tar", None)
                .unwrap()
                .paths,
            [PathBuf::from("/x/a.tar"), PathBuf::from("/x/b.tar")]
        );
        assert_eq!(
            Shards::expand("dir/a:b.tar", None).unwrap().paths,
            [PathBuf::from("dir/a:b.tar")]
        );
        for (name, scheme) in [
            ("https://host/{0..3}.tar", "https"),
            ("s3://bucket/a.tar", "s3"),
            ("pipe:aws s3 cp s3://b/{00..10}.tar -", "pipe"),
            ("ok.tar::gs://b/a.tar", "gs"),
        ] {
            match Shards::expand(name, None) {
                Err(DataError::UnsupportedScheme { scheme: found, .. }) => {
                    assert_eq!(found, scheme)
                }
                other => panic!("{name}: {other:?}"),
            }
        }
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
