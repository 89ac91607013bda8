//! What a training checkpoint of OpenCLIP (`epoch_K.pt`) says beside its weights: epoch, order of the parameters, optimizer.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::WeightsError;
use super::extract::Extract;
use super::format::Format;
use super::pickle::{Id, Value};
use super::tensor::{RawTensor, WeightsFile};
use super::torch;
use super::zip::Members;

/// A training checkpoint without its weights, which [`StateDict`](super::StateDict) reads.
#[derive(Debug, Clone)]
pub struct TrainingCheckpoint {
    /// Epochs that were completed.
    pub epoch: u64,
    /// Keys of the state dict in their order there, which is the order of `named_parameters` with buffers among them.
    pub keys: Vec<String>,
    /// `optimizer.state_dict()`, where there is one.
    pub optimizer: Option<OptimizerState>,
}

/// What `state_dict()` of one of PyTorch's optimizers says.
#[derive(Debug, Clone, Default)]
pub struct OptimizerState {
    /// Groups of parameters, in their order.
    pub groups: Vec<OptimizerGroup>,
    /// What the optimizer keeps of each parameter that had a gradient.
    pub slots: BTreeMap<Slot, BTreeMap<String, Entry>>,
}

/// Parameters with the same settings.
#[derive(Debug, Clone, Default)]
pub struct OptimizerGroup {
    /// The parameters.
    pub params: Vec<Slot>,
    /// Settings by name.
    pub settings: BTreeMap<String, Entry>,
}

/// How an optimizer's state names a parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// By its place among the parameters of all groups.
    Index(u64),
    /// By its key, as a sharded run gathers it.
    Key(String),
}

/// A value of a group or of a parameter's state.
#[derive(Debug, Clone)]
pub enum Entry {
    /// `True` or `False`.
    Flag(bool),
    /// A number.
    Number(f64),
    /// Several numbers.
    Numbers(Vec<f64>),
    /// A tensor.
    Tensor(RawTensor),
    /// Anything else.
    Other,
}

impl TrainingCheckpoint {
    /// Reads what the file says beside its weights; nothing if it is no training checkpoint: another format, or weights alone.
    ///
    /// # Errors
    /// As [`StateDict::open`](super::StateDict::open).
    pub fn open(path: &Path) -> Result<Option<Self>, WeightsError> {
        let file = WeightsFile::open(path)?;
        match Format::of(&file)? {
            Format::Legacy => torch::with_legacy(&file, Self::read),
            Format::Zip => {
                let members = Members::list(&file)?;
                let root = torch::root(&members);
                root.map_or(Ok(None), |root| {
                    torch::with_zip(&file, &members, root, Self::read)
                })
            }
            _ => Ok(None),
        }
    }

    fn read(content: &Extract<'_>) -> Result<Option<Self>, WeightsError> {
        let pickle = content.pickle;
        let dict = |id: Id| match pickle.get(id) {
            Value::Dict(entries) => Some(entries.as_slice()),
            _ => None,
        };
        let Some(root) = dict(pickle.root) else {
            return Ok(None);
        };
        let epoch = pickle.entry(root, "epoch").map(|id| pickle.get(id));
        let weights = pickle.entry(root, "state_dict").and_then(dict);
        let (Some(&Value::Int(epoch)), Some(weights)) = (epoch, weights) else {
            return Ok(None);
        };
        // Lightning's files look alike and count otherwise.
        if pickle.entry(root, "pytorch-lightning_version").is_some() {
            return Ok(None);
        }
        let keys = weights
            .iter()
            .filter_map(|&(key, _)| match pickle.get(key) {
                Value::Str(key) => Some((*key).to_owned()),
                _ => None,
            });
        let optimizer = pickle.entry(root, "optimizer").and_then(dict);
        let optimizer = optimizer.map(|entries| Reader(content).optimizer(entries));
        Ok(Some(Self {
            epoch: u64::try_from(epoch).unwrap_or(0),
            keys: keys.collect(),
            optimizer: optimizer.transpose()?,
        }))
    }
}

/// From the values of a pickle to those of an optimizer.
struct Reader<'a>(&'a Extract<'a>);

impl Reader<'_> {
    fn optimizer(&self, entries: &[(Id, Id)]) -> Result<OptimizerState, WeightsError> {
        let Self(Extract { pickle, .. }) = self;
        let mut found = OptimizerState::default();
        let groups = pickle.entry(entries, "param_groups");
        if let Some(Value::List(groups)) = groups.map(|id| pickle.get(id)) {
            for &group in groups {
                if let Value::Dict(settings) = pickle.get(group) {
                    let params = pickle.entry(settings, "params");
                    let params = match params.map(|id| pickle.get(id)) {
                        Some(Value::List(params)) => params.as_slice(),
                        _ => &[],
                    };
                    found.groups.push(OptimizerGroup {
                        params: params.iter().filter_map(|&id| self.slot(id)).collect(),
                        settings: self.entries("param_groups", settings)?,
                    });
                }
            }
        }
        let state = pickle.entry(entries, "state");
        if let Some(Value::Dict(state)) = state.map(|id| pickle.get(id)) {
            for &(slot, values) in state {
                if let (Some(slot), Value::Dict(values)) = (self.slot(slot), pickle.get(values)) {
                    let values = self.entries("state", values)?;
                    found.slots.insert(slot, values);
                }
            }
        }
        Ok(found)
    }

    fn slot(&self, id: Id) -> Option<Slot> {
        match self.0.pickle.get(id) {
            Value::Int(index) => u64::try_from(*index).ok().map(Slot::Index),
            Value::Str(key) => Some(Slot::Key((*key).to_owned())),
            _ => None,
        }
    }

    fn entries(
        &self,
        place: &str,
        entries: &[(Id, Id)],
    ) -> Result<BTreeMap<String, Entry>, WeightsError> {
        let mut found = BTreeMap::new();
        for &(name, value) in entries {
            if let Value::Str(name) = self.0.pickle.get(name) {
                let entry = self.entry(&format!("optimizer.{place}.{name}"), value)?;
                found.insert((*name).to_owned(), entry);
            }
        }
        Ok(found)
    }

    fn entry(&self, key: &str, id: Id) -> Result<Entry, WeightsError> {
        let number = |id: Id| match self.0.pickle.get(id) {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        };
        Ok(match self.0.pickle.get(id) {
            Value::Bool(flag) => Entry::Flag(*flag),
            Value::Tensor { .. } => Entry::Tensor(self.0.tensor(key, id)?),
            Value::Tuple(items) | Value::List(items) => {
                let numbers: Option<Vec<f64>> = items.iter().map(|&item| number(item)).collect();
                numbers.map_or(Entry::Other, Entry::Numbers)
            }
            _ => number(id).map_or(Entry::Other, Entry::Number),
        })
    }
}
