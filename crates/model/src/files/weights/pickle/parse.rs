//! From bytes to a tree of values.

use super::machine::Machine;
use super::value::{Id, Refusal, Value};

/// A parsed pickle.
#[derive(Debug)]
pub(in crate::files::weights) struct Pickle<'a> {
    pub values: Vec<Value<'a>>,
    pub root: Id,
    /// Bytes that the pickle took.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Parses the pickle at the start of `bytes`; `script` allows the classes of a TorchScript archive.
    pub fn parse(bytes: &'a [u8], script: bool) -> Result<Self, Refusal> {
        let mut machine = Machine::new(bytes, script);
        loop {
            let offset = machine.cursor.position;
            let step = machine
                .step()
                .map_err(|reason| Refusal { offset, reason })?;
            if let Some(root) = step {
                return Ok(Self {
                    values: machine.values,
                    root,
                    len: machine.cursor.position,
                });
            }
        }
    }

    pub fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Opaque)
    }

    /// The entry of a dict under a string key; the last one counts, as in Python.
    pub fn entry(&self, dict: &[(Id, Id)], name: &str) -> Option<Id> {
        let found = dict
            .iter()
            .rev()
            .find(|(key, _)| matches!(self.get(*key), Value::Str(k) if *k == name));
        found.map(|&(_, value)| value)
    }
}
