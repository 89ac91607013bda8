//! The file, and the file of weights beside it where there are too many.

use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;

use super::part::OPSET;
use super::proto::{Entry, Graph, Model, OperatorSet};
use crate::files::atomic::AtomicFile;
use crate::files::weights::{CONFIG_METADATA, WeightsError};
use crate::load::factory::{self, Loaded};

/// Version of the format, that of ONNX 1.12.
const IR_VERSION: i64 = 8;
/// Smaller constants stay in the file itself.
const LEAST_OUTSIDE: usize = 1024;
/// Where the bytes of weights begin, so that they can be mapped.
const ALIGNMENT: u64 = 4096;

/// Writes a graph; the weights first, so that a file that is there is whole.
pub(super) fn write(
    loaded: &Loaded,
    mut graph: Graph,
    path: &Path,
    most: u64,
) -> Result<Vec<PathBuf>, WeightsError> {
    let mut files = vec![path.to_path_buf()];
    let sizes = graph.initializer.iter();
    let bytes = sizes.map(|tensor| tensor.raw_data.as_ref().map_or(0, Vec::len) as u64);
    if bytes.sum::<u64>() > most {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".data");
        let beside = path.with_file_name(&name);
        move_out(&mut graph, &beside).map_err(|source| WeightsError::Io {
            file: beside.clone(),
            source,
        })?;
        files.push(beside);
    }
    let entry = |key: &str, value: String| Entry {
        key: Some(key.to_owned()),
        value: Some(value),
    };
    let hub = factory::hub_config(&loaded.config, &loaded.preprocess);
    let model = Model {
        ir_version: Some(IR_VERSION),
        opset_import: vec![OperatorSet {
            domain: None,
            version: Some(OPSET),
        }],
        producer_name: Some("openclip".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(graph),
        metadata: vec![entry(CONFIG_METADATA, hub.to_string())],
    };
    let write = || {
        let mut file = AtomicFile::create(path)?;
        file.write_all(&model.encode_to_vec())?;
        file.finish()
    };
    write().map_err(|source| WeightsError::Io {
        file: path.to_path_buf(),
        source,
    })?;
    Ok(files)
}

/// Moves the bytes of all but small constants to a file.
fn move_out(graph: &mut Graph, path: &Path) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut file = AtomicFile::create(path)?;
    let mut at = 0_u64;
    for tensor in &mut graph.initializer {
        let raw = tensor.raw_data.take_if(|raw| raw.len() >= LEAST_OUTSIDE);
        let Some(raw) = raw else {
            continue;
        };
        let start = at.next_multiple_of(ALIGNMENT);
        file.write_all(&vec![0; (start - at) as usize])?;
        file.write_all(&raw)?;
        at = start + raw.len() as u64;
        let said = [
            ("location", name.to_string()),
            ("offset", start.to_string()),
            ("length", raw.len().to_string()),
        ];
        let said = said.map(|(key, value)| Entry {
            key: Some(key.into()),
            value: Some(value),
        });
        tensor.external_data = said.into();
        tensor.data_location = Some(1);
    }
    file.finish()
}
