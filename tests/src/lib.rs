//! What the end-to-end and parity tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

pub mod batch_norm;
pub mod circles;
pub mod family;
#[cfg(test)]
mod honest;
mod numbers;
#[cfg(feature = "mpi")]
pub mod processes;
pub mod regression;
pub mod runs;
pub mod web;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use burn::tensor::{Device, Int, Tensor, TensorData};
use openclip_model::Clip;
use openclip_model::config::ModelConfig;
use openclip_model::load::load_state_dict;
use openclip_model::weights::StateDict;
use openclip_train::comm::threads::{self, ThreadRank};

pub use numbers::{
    finite, gradients_of, largest, max_difference, named_values, parameters_of,
    relative_difference, values,
};

/// A committed file made by one of the exporters in `tests/parity/`; an absolute path stays itself. They lie in
/// `OPENCLIP_TEST_DATA` where the program runs without the checkout.
pub fn fixture(name: &str) -> PathBuf {
    let folder = std::env::var_os("OPENCLIP_TEST_DATA").map(PathBuf::from);
    let checkout = || Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/data");
    folder.unwrap_or_else(checkout).join(name)
}

/// The device under test: `OPENCLIP_TEST_DEVICE`, else the CPU. It is looked for once, since that silences Rust's panic messages
/// for the whole process meanwhile.
pub fn device() -> Device {
    static DEVICE: LazyLock<Device> =
        LazyLock::new(|| openclip_model::device::parse(&device_name()).unwrap());
    DEVICE.clone()
}

/// Its name.
pub fn device_name() -> String {
    std::env::var("OPENCLIP_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// A committed JSON file.
pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

/// A model configuration inside a JSON file.
pub fn model_config(json: &serde_json::Value) -> ModelConfig {
    serde_json::from_value(json.clone()).unwrap()
}

/// A model whose weights lie under `prefix` in a fixture.
pub fn model(config: &ModelConfig, file: &str, prefix: &str, device: &Device) -> Clip {
    let weights = fixture_tensors(file, prefix);
    load_state_dict(
        Clip::new(config, device).unwrap(),
        config,
        weights,
        &fixture(file),
    )
    .unwrap()
}

/// Tensors of a fixture by name: shape and values as f32.
pub struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Tensors {
    /// Reads a `.safetensors` fixture. Pixels are there in 32nds, as signed bytes.
    pub fn read(name: &str) -> Self {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let values: Vec<f32> = match view.dtype() {
                safetensors::Dtype::F32 => view
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
                safetensors::Dtype::F64 => view
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f64::from_le_bytes(*b) as f32)
                    .collect(),
                safetensors::Dtype::I64 => view
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| i64::from_le_bytes(*b) as f32)
                    .collect(),
                safetensors::Dtype::I8 => view
                    .data()
                    .iter()
                    .map(|b| f32::from(b.cast_signed()) / 32.0)
                    .collect(),
                safetensors::Dtype::U8 => view.data().iter().map(|b| f32::from(*b)).collect(),
                other => panic!("{name}: {other:?}"),
            };
            (name, (view.shape().to_vec(), finite(values)))
        });
        Self(tensors.collect())
    }

    /// Shape and values of one tensor.
    pub fn get(&self, name: &str) -> (&[usize], &[f32]) {
        let tensor = self.find(name);
        tensor.unwrap_or_else(|| panic!("no tensor `{name}`"))
    }

    /// The same, where it is there.
    pub fn find(&self, name: &str) -> Option<(&[usize], &[f32])> {
        let (shape, values) = self.0.get(name)?;
        Some((shape, values))
    }

    /// One tensor on a device.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, values) = self.get(name);
        Tensor::from_data(TensorData::new(values.to_vec(), shape.to_vec()), device)
    }

    /// Token ids on a device.
    pub fn tokens(&self, name: &str, device: &Device) -> Tensor<2, Int> {
        let (shape, values) = self.get(name);
        let ids: Vec<i64> = values.iter().map(|id| *id as i64).collect();
        Tensor::from_data(TensorData::new(ids, shape.to_vec()), device)
    }

    /// Tensors whose names start with `prefix`, without it.
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a [f32])> {
        self.0.iter().filter_map(move |(name, (_, values))| {
            Some((name.strip_prefix(prefix)?, values.as_slice()))
        })
    }
}

/// The tensors that a fixture carries under `prefix`, without it.
pub fn fixture_tensors(name: &str, prefix: &str) -> StateDict {
    let mut dict = StateDict::read(&fixture(name)).unwrap();
    dict.tensors = std::mem::take(&mut dict.tensors)
        .into_iter()
        .filter_map(|(key, tensor)| Some((key.strip_prefix(prefix)?.to_string(), tensor)))
        .collect();
    dict
}

/// Tensors of `parity/export_formats.py`: of the committed file, or of that which `OPENCLIP_FORMATS` names.
pub fn formats() -> Vec<u8> {
    let path = std::env::var_os("OPENCLIP_FORMATS")
        .map_or_else(|| fixture("formats.safetensors.gz"), Into::into);
    let mut tensors = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut tensors)
        .unwrap();
    tensors
}

/// Runs `work` on each rank of a world of threads.
pub fn on_threads<T: Send>(size: usize, work: impl Fn(ThreadRank) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let ranks = threads::ranks(size).into_iter();
        let running: Vec<_> = ranks.map(|rank| scope.spawn(move || work(rank))).collect();
        let ended = running.into_iter().map(|rank| rank.join().unwrap());
        ended.collect()
    })
}
