//! What a pickle would call, were it run: functions, classes, and the names of data outside it.

use super::cursor::{Step, malformed};
use super::global::Global;
use super::machine::Machine;
use super::value::{Id, Value};
use crate::files::weights::tensor::DType;

impl Machine<'_> {
    /// A function and its arguments.
    pub(super) fn reduce(&mut self) -> Step<()> {
        let mut arguments = self.pop()?;
        let mut callable = self.pop()?;
        // A call that makes another call, whose arguments come from further down: the chain has an end.
        while let (Value::Global(Global::RebuildFromType), Value::Tuple(fields)) =
            (self.get(callable), self.get(arguments))
        {
            let Some(&[function, _, inner]) = fields.first_chunk() else {
                return malformed("a tensor's class without its function");
            };
            (callable, arguments) = (function, inner);
        }
        let global = match self.get(callable) {
            &Value::Global(global) => global,
            // What another call gave, which can be a function.
            Value::Object(_) | Value::Opaque => Global::Other,
            _ => return malformed("a call of what is not a function"),
        };
        let none = Vec::new();
        let arguments = match self.get(arguments) {
            Value::Tuple(arguments) => arguments,
            _ => &none,
        };
        match (global, arguments.as_slice()) {
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let tensor = match (self.get(storage), self.element(arguments)) {
                    (Value::Storage { dtype: Some(_), .. }, Ok(dtype)) => Value::Tensor {
                        storage,
                        offset,
                        shape,
                        strides,
                        dtype,
                    },
                    // Numbers of a kind that is not read.
                    (Value::Storage { .. } | Value::Object(_), _) => Value::Object(None),
                    _ => return malformed("a tensor without its storage"),
                };
                self.push(tensor)
            }
            (Global::FirstArgument, &[first, ..]) => self.push_id(first),
            (Global::FirstArgument, []) => self.push(Value::Object(None)),
            (Global::Dict, &[pairs]) if matches!(self.get(pairs), Value::List(_)) => {
                let dict = self.pairs(pairs)?;
                self.push(Value::Dict(dict))
            }
            (Global::Dict, _) => self.push(Value::Dict(Vec::new())),
            (Global::Other | Global::Storage(_) | Global::Element(_), _) => {
                self.push(Value::Object(None))
            }
            _ => malformed(format!("{global:?} called with unfit arguments")),
        }
    }

    /// The element type among a tensor's arguments, if one is there; an error if it is none that is read.
    fn element(&self, arguments: &[Id]) -> Result<Option<DType>, ()> {
        match arguments.get(6).map(|&dtype| self.get(dtype)) {
            Some(&Value::Global(Global::Element(dtype))) => Ok(Some(dtype)),
            Some(Value::Global(_)) => Err(()),
            _ => Ok(None),
        }
    }

    /// `[(key, value), …]`, as `OrderedDict` takes it.
    fn pairs(&self, list: Id) -> Step<Vec<(Id, Id)>> {
        let Value::List(pairs) = self.get(list) else {
            return malformed("OrderedDict of what is not a list");
        };
        let pair = |&id: &Id| match self.get(id) {
            Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => malformed("OrderedDict of what are not pairs"),
        };
        pairs.iter().map(pair).collect()
    }

    /// An object of a class, which lies below its arguments: `operands` values in all.
    pub(super) fn new_object(&mut self, operands: usize) -> Step<()> {
        let mut class = self.pop()?;
        for _ in 1..operands {
            class = self.pop()?;
        }
        match self.get(class) {
            Value::Global(Global::Dict) => self.push(Value::Dict(Vec::new())),
            Value::Global(_) | Value::Object(_) | Value::Opaque => self.push(Value::Object(None)),
            _ => malformed("an object of what is not a class"),
        }
    }

    /// Attributes of an object.
    pub(super) fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        match self.top()? {
            Value::Object(attributes) => *attributes = Some(state),
            // Attributes of the dict itself (`_metadata` of a state dict), or of a value nobody looks at.
            Value::Dict(_) | Value::List(_) | Value::Opaque | Value::Tensor { .. } => {}
            _ => return malformed("state for what has none"),
        }
        Ok(())
    }

    /// `('storage', class, key, location, number of elements)`; in the older form also `('module', class, file, source)`.
    pub(super) fn persistent_id(&mut self) -> Step<()> {
        let id = self.pop()?;
        let Value::Tuple(fields) = self.get(id) else {
            return malformed("a persistent id that is not a tuple");
        };
        if let &[tag, class, ..] = fields.as_slice()
            && matches!(self.get(tag), Value::Str("module"))
        {
            return self.push_id(class);
        }
        let Some((&[tag, class, key, _, numel], view)) = fields.split_first_chunk::<5>() else {
            return malformed("a persistent id with too few fields");
        };
        let is_none = |&id: &Id| matches!(self.get(id), Value::None);
        if !view.iter().all(is_none) {
            return malformed("a view of a storage, which PyTorch has not written since 0.4");
        }
        match (
            self.get(tag),
            self.get(class),
            self.get(key),
            self.get(numel),
        ) {
            (
                Value::Str("storage"),
                &Value::Global(Global::Storage(dtype)),
                &Value::Str(key),
                &Value::Int(numel),
            ) => self.push(Value::Storage { key, dtype, numel }),
            _ => malformed("a persistent id that names no storage"),
        }
    }
}
