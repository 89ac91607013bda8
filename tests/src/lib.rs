//! What the end-to-end and parity tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use openclip_model::weights::StateDict;

/// A committed file made by one of the exporters in `tests/parity/`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/data").join(name)
}

/// The device under test: `OPENCLIP_TEST_DEVICE`, else the CPU.
pub fn device() -> Device {
    let name = std::env::var("OPENCLIP_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    openclip_model::device::parse(&name).unwrap()
}

/// Tensors of a fixture by name: shape and values as f32.
pub struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Tensors {
    /// Reads a `.safetensors` fixture.
    pub fn read(name: &str) -> Self {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let values = match view.dtype() {
                safetensors::Dtype::F32 => {
                    view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
                }
                safetensors::Dtype::F64 => {
                    view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
                }
                safetensors::Dtype::I64 => {
                    view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
                }
                other => panic!("{name}: {other:?}"),
            };
            (name, (view.shape().to_vec(), values))
        });
        Self(tensors.collect())
    }

    /// Shape and values of one tensor.
    pub fn get(&self, name: &str) -> (&[usize], &[f32]) {
        let (shape, values) = self.0.get(name).unwrap_or_else(|| panic!("no tensor `{name}`"));
        (shape, values)
    }

    /// Tensors whose names start with `prefix`, without it.
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a [f32])> {
        self.0
            .iter()
            .filter_map(move |(name, (_, values))| Some((name.strip_prefix(prefix)?, values.as_slice())))
    }
}

/// The weights that a model fixture carries under `weights/`.
pub fn fixture_weights(name: &str) -> StateDict {
    let mut dict = StateDict::read(&fixture(name)).unwrap();
    dict.tensors = std::mem::take(&mut dict.tensors)
        .into_iter()
        .filter_map(|(key, tensor)| Some((key.strip_prefix("weights/")?.to_string(), tensor)))
        .collect();
    dict
}

/// Largest absolute difference.
pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |max, d| if d.is_nan() { f32::NAN } else { max.max(d) })
}

/// Difference relative to the largest magnitude of `expected`.
pub fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    let scale = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    max_difference(found, expected) / scale.max(1e-12)
}
