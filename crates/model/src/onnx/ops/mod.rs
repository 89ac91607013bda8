//! Operations of Burn as nodes.
//!
//! * `base` – shapes, selection, comparison, casts
//! * `numeric` – arithmetic and reductions
//! * `module` – layers and non-linearities

mod base;
mod common;
mod module;
mod numeric;

use std::collections::{BTreeMap, HashMap, HashSet};

use burn::tensor::TensorData;
use burn_ir::{BoolOperationIr, FloatOperationIr, IntOperationIr, OperationIr, TensorId, TensorIr};

use self::common::unknown;
use super::builder::Builder;
use super::proto::Graph;
use super::trace::{Trace, tensors};

/// What was recorded as ONNX's graph, without what no output needs.
pub(super) fn graph(trace: Trace) -> Result<Graph, String> {
    let Trace {
        graph,
        mut values,
        mut names,
        dims,
    } = trace;
    // By their order, since Burn's numbers go on from one recording to the next.
    let mut count = 0;
    for tensor in graph.operations.iter().flat_map(tensors) {
        names.entry(tensor.id).or_insert_with(|| {
            count += 1;
            format!("t{count}")
        });
    }
    let known: HashMap<TensorId, &TensorIr> = graph
        .operations
        .iter()
        .flat_map(tensors)
        .map(|tensor| (tensor.id, tensor))
        .collect();
    let needed = needed(&graph.operations, &graph.outputs);
    let mut builder = Builder::new(names, dims);
    let mut made: HashSet<TensorId> = graph.inputs.iter().copied().collect();
    for (operation, _) in graph
        .operations
        .iter()
        .zip(&needed)
        .filter(|(_, needed)| **needed)
    {
        let outputs: Vec<_> = operation.outputs().into_iter().collect();
        for tensor in operation.nodes() {
            if made.insert(tensor.id) && outputs.iter().all(|output| output.id != tensor.id) {
                keep(&mut builder, tensor, &mut values)?;
            }
        }
        made.extend(outputs.iter().map(|output| output.id));
        convert(&mut builder, operation)?;
    }
    let infos = |ids: &[TensorId]| {
        let tensors = ids.iter().filter_map(|id| known.get(id));
        let infos = tensors.map(|tensor| builder.info(tensor));
        infos.collect::<Result<Vec<_>, _>>()
    };
    let (input, output) = (infos(&graph.inputs)?, infos(&graph.outputs)?);
    // Some are made before it is known whether an operator wants them.
    let used: HashSet<&String> = builder.nodes.iter().flat_map(|node| &node.input).collect();
    let constants = builder.constants.into_iter();
    let constants = constants.filter(|constant| {
        constant
            .name
            .as_ref()
            .is_some_and(|name| used.contains(name))
    });
    Ok(Graph {
        initializer: constants.collect(),
        node: builder.nodes,
        name: Some("clip".into()),
        input,
        output,
    })
}

/// Which operations the outputs depend on.
fn needed(operations: &[OperationIr], outputs: &[TensorId]) -> Vec<bool> {
    let mut wanted: HashSet<TensorId> = outputs.iter().copied().collect();
    let mut needed = vec![false; operations.len()];
    for (operation, needed) in operations.iter().zip(&mut needed).rev() {
        let is_value = matches!(operation, OperationIr::Init(_) | OperationIr::Drop(_));
        let outputs: Vec<_> = operation.outputs().into_iter().collect();
        *needed = !is_value && outputs.iter().any(|output| wanted.contains(&output.id));
        if *needed {
            wanted.extend(operation.nodes().into_iter().map(|tensor| tensor.id));
        }
    }
    needed
}

/// A value that was there before it was used: a parameter, a table.
fn keep(
    builder: &mut Builder,
    tensor: &TensorIr,
    values: &mut BTreeMap<TensorId, TensorData>,
) -> Result<(), String> {
    let name = builder.name(tensor);
    let value = values.remove(&tensor.id);
    let value = value.ok_or_else(|| format!("{name} has no value"))?;
    if builder.is_open(tensor) {
        return Err("a table of it depends on the size of the batch".into());
    }
    builder.constant(name, value)
}

fn convert(b: &mut Builder, operation: &OperationIr) -> Result<(), String> {
    match operation {
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => {
            base::convert(b, op)
        }
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => {
            numeric::convert(b, op)
        }
        OperationIr::Float(_, op) => float(b, op),
        OperationIr::Int(IntOperationIr::IntoFloat(op)) => base::cast(b, &op.input, &op.out),
        OperationIr::Bool(op) => bool(b, op),
        OperationIr::Module(op) => module::convert(b, op),
        OperationIr::Activation(op) => module::activation(b, op),
        other => Err(unknown(other)),
    }
}

fn float(b: &mut Builder, operation: &FloatOperationIr) -> Result<(), String> {
    use FloatOperationIr as Op;
    let (op, unary) = match operation {
        Op::Exp(unary) => ("Exp", unary),
        Op::Log(unary) => ("Log", unary),
        Op::Erf(unary) => ("Erf", unary),
        Op::Sqrt(unary) => ("Sqrt", unary),
        Op::Cos(unary) => ("Cos", unary),
        Op::Sin(unary) => ("Sin", unary),
        Op::Tanh(unary) => ("Tanh", unary),
        Op::Round(unary) => ("Round", unary),
        Op::Floor(unary) => ("Floor", unary),
        Op::Ceil(unary) => ("Ceil", unary),
        Op::Recip(unary) => ("Reciprocal", unary),
        Op::IsNan(unary) => ("IsNaN", unary),
        Op::IsInf(unary) => ("IsInf", unary),
        Op::IntoInt(cast) => return base::cast(b, &cast.input, &cast.out),
        Op::Matmul(product) => {
            let inputs = [b.name(&product.lhs), b.name(&product.rhs)];
            b.made("MatMul", &inputs, &[], &product.out);
            return Ok(());
        }
        Op::PowfScalar(power) => {
            let exponent = b.scalar(power.rhs, power.lhs.dtype)?;
            let inputs = [b.name(&power.lhs), exponent];
            b.made("Pow", &inputs, &[], &power.out);
            return Ok(());
        }
        Op::Powf(power) => {
            let inputs = [b.name(&power.lhs), b.name(&power.rhs)];
            b.made("Pow", &inputs, &[], &power.out);
            return Ok(());
        }
        other => return Err(unknown(other)),
    };
    let input = b.name(&unary.input);
    b.made(op, &[input], &[], &unary.out);
    Ok(())
}

fn bool(b: &mut Builder, operation: &BoolOperationIr) -> Result<(), String> {
    use BoolOperationIr as Op;
    let (op, binary) = match operation {
        Op::IntoFloat(cast) | Op::IntoInt(cast) => return base::cast(b, &cast.input, &cast.out),
        Op::Not(unary) => {
            let input = b.name(&unary.input);
            b.made("Not", &[input], &[], &unary.out);
            return Ok(());
        }
        Op::And(binary) => ("And", binary),
        Op::Or(binary) => ("Or", binary),
        Op::Xor(binary) => ("Xor", binary),
    };
    let inputs = [b.name(&binary.lhs), b.name(&binary.rhs)];
    b.made(op, &inputs, &[], &binary.out);
    Ok(())
}
