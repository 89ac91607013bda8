//! Nodes, constants and their names.

use std::collections::HashMap;

use burn::tensor::{DType, TensorData};
use burn_ir::{ScalarIr, TensorId, TensorIr};

use super::proto::{Attribute, Dimension, Node, Shape, Tensor, TensorType, Type, ValueInfo};
use super::trace::{Dim, INPUTS};

/// The graph as far as it is built.
pub(super) struct Builder {
    pub nodes: Vec<Node>,
    pub constants: Vec<Tensor>,
    names: HashMap<TensorId, String>,
    dims: HashMap<TensorId, Vec<Dim>>,
    /// Constants of whole numbers, by value.
    shapes: HashMap<Vec<i64>, String>,
    /// Sizes of the inputs' batches, `[1]`, where they were asked for.
    batches: [Option<String>; INPUTS.len()],
    count: usize,
}

/// A setting of an operator.
pub(super) enum Set<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
    Tensor(Tensor),
}

pub(super) type Settings<'a> = &'a [(&'static str, Set<'a>)];

impl Builder {
    pub fn new(names: HashMap<TensorId, String>, dims: HashMap<TensorId, Vec<Dim>>) -> Self {
        Self {
            nodes: Vec::new(),
            constants: Vec::new(),
            names,
            dims,
            shapes: HashMap::new(),
            batches: Default::default(),
            count: 0,
        }
    }

    /// The name of a recorded tensor.
    pub fn name(&self, tensor: &TensorIr) -> String {
        let name = self.names.get(&tensor.id);
        name.cloned()
            .unwrap_or_else(|| format!("u{}", tensor.id.value()))
    }

    /// The extents of a recorded tensor.
    pub fn dims(&self, tensor: &TensorIr) -> Vec<Dim> {
        let fixed = || tensor.shape.iter().map(|dim| Dim::Fixed(*dim)).collect();
        self.dims.get(&tensor.id).cloned().unwrap_or_else(fixed)
    }

    /// Whether an extent of it is a batch's.
    pub fn is_open(&self, tensor: &TensorIr) -> bool {
        let dims = self.dims(tensor);
        dims.iter().any(|dim| matches!(dim, Dim::Batch { .. }))
    }

    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("n{}", self.count)
    }

    /// Adds an operator whose result has a name.
    pub fn named(&mut self, op: &str, inputs: &[String], settings: Settings<'_>, output: String) {
        let attribute = settings.iter().map(|(name, set)| attribute(name, set));
        self.nodes.push(Node {
            input: inputs.to_vec(),
            name: Some(format!("{op}_{}", self.nodes.len())),
            output: vec![output],
            op_type: Some(op.to_owned()),
            attribute: attribute.collect(),
        });
    }

    /// Adds an operator that makes a recorded tensor.
    pub fn made(&mut self, op: &str, inputs: &[String], settings: Settings<'_>, out: &TensorIr) {
        self.named(op, inputs, settings, self.name(out));
    }

    /// Adds an operator; the name of its result comes back.
    pub fn node(&mut self, op: &str, inputs: &[String], settings: Settings<'_>) -> String {
        let output = self.fresh();
        self.named(op, inputs, settings, output.clone());
        output
    }

    /// A constant tensor of a recorded value.
    pub fn constant(&mut self, name: String, value: TensorData) -> Result<(), String> {
        let data_type = Some(element(value.dtype())?);
        self.constants.push(Tensor {
            dims: value.shape().iter().map(|dim| *dim as i64).collect(),
            data_type,
            name: Some(name),
            raw_data: Some(value.as_bytes().to_vec()),
            ..Tensor::default()
        });
        Ok(())
    }

    /// A constant without axes.
    pub fn scalar(&mut self, value: ScalarIr, dtype: DType) -> Result<String, String> {
        let name = self.fresh();
        let value = scalar(value, dtype)?;
        self.constant(name.clone(), value)?;
        Ok(name)
    }

    /// A constant of whole numbers, `[numbers]`.
    pub fn ints(&mut self, numbers: &[i64]) -> String {
        if let Some(name) = self.shapes.get(numbers) {
            return name.clone();
        }
        let name = self.fresh();
        let raw = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.constants.push(Tensor {
            dims: vec![numbers.len() as i64],
            data_type: Some(INT64),
            name: Some(name.clone()),
            raw_data: Some(raw.collect()),
            ..Tensor::default()
        });
        self.shapes.insert(numbers.to_vec(), name.clone());
        name
    }

    /// A shape, which depends on the batches where `dims` do.
    pub fn shape(&mut self, dims: &[Dim]) -> String {
        let mut parts = Vec::new();
        let mut fixed = Vec::new();
        for dim in dims {
            match *dim {
                Dim::Fixed(extent) => fixed.push(extent as i64),
                Dim::Batch { input, times } => {
                    if !fixed.is_empty() {
                        parts.push(self.ints(&fixed));
                        fixed.clear();
                    }
                    parts.push(self.batch(input, times));
                }
            }
        }
        if !fixed.is_empty() || parts.is_empty() {
            parts.push(self.ints(&fixed));
        }
        match parts.as_slice() {
            [whole] => whole.clone(),
            _ => self.node("Concat", &parts, &[("axis", Set::Int(0))]),
        }
    }

    /// The same for `Reshape`, which infers one extent.
    pub fn inferred_shape(&mut self, dims: &[Dim]) -> String {
        let is_open = |dim: &&Dim| matches!(dim, Dim::Batch { .. });
        if dims.iter().filter(is_open).count() != 1 {
            return self.shape(dims);
        }
        let extents = dims.iter().map(|dim| match dim {
            Dim::Fixed(extent) => *extent as i64,
            Dim::Batch { .. } => -1,
        });
        self.ints(&extents.collect::<Vec<_>>())
    }

    /// So many times the batch of an input, `[1]`.
    fn batch(&mut self, input: usize, times: usize) -> String {
        let size = match &self.batches[input] {
            Some(name) => name.clone(),
            None => {
                let first = [("start", Set::Int(0)), ("end", Set::Int(1))];
                let name = self.node("Shape", &[INPUTS[input].to_owned()], &first);
                self.batches[input] = Some(name.clone());
                name
            }
        };
        match times {
            1 => size,
            times => {
                let times = self.ints(&[times as i64]);
                self.node("Mul", &[size, times], &[])
            }
        }
    }

    /// A recorded tensor as an input or output of the graph.
    pub fn info(&self, tensor: &TensorIr) -> Result<ValueInfo, String> {
        let dims = self.dims(tensor).into_iter().map(|dim| match dim {
            Dim::Fixed(extent) => Dimension {
                value: Some(extent as i64),
                param: None,
            },
            Dim::Batch { input, .. } => Dimension {
                value: None,
                param: Some(format!("{}_batch", INPUTS[input])),
            },
        });
        Ok(ValueInfo {
            name: Some(self.name(tensor)),
            kind: Some(Type {
                tensor: Some(TensorType {
                    elem_type: Some(element(tensor.dtype)?),
                    shape: Some(Shape {
                        dim: dims.collect(),
                    }),
                }),
            }),
        })
    }
}

const INT64: i32 = 7;

/// ONNX's number of an element type.
pub(super) fn element(dtype: DType) -> Result<i32, String> {
    Ok(match dtype {
        DType::F32 | DType::Flex32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => INT64,
        DType::Bool(_) => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
        DType::QFloat(_) => return Err("quantised tensors are not written".into()),
    })
}

/// A number as a tensor without axes.
pub(super) fn scalar(value: ScalarIr, dtype: DType) -> Result<TensorData, String> {
    let none: [usize; 0] = [];
    let data = match value {
        ScalarIr::Float(value) => TensorData::new(vec![value], none),
        ScalarIr::Int(value) => TensorData::new(vec![value], none),
        ScalarIr::UInt(value) => TensorData::new(vec![value], none),
        ScalarIr::Bool(value) => TensorData::new(vec![value], none),
    };
    data.try_cast(dtype)
        .map_err(|error| format!("a constant: {error:?}"))
}

fn attribute(name: &str, set: &Set<'_>) -> Attribute {
    let mut attribute = Attribute {
        name: Some(name.to_owned()),
        ..Attribute::default()
    };
    let kind = match set {
        Set::Float(value) => {
            attribute.f = Some(*value);
            1
        }
        Set::Int(value) => {
            attribute.i = Some(*value);
            2
        }
        Set::Tensor(value) => {
            attribute.t = Some(value.clone());
            4
        }
        Set::Ints(values) => {
            attribute.ints = values.to_vec();
            7
        }
    };
    attribute.kind = Some(kind);
    attribute
}
