//! Shapes, selection, comparison and casts.

use burn_ir::{BaseOperationIr, ScalarIr, SliceOpIr, TensorIr};

use super::super::builder::{Builder, Set, element, scalar};
use super::super::proto::Tensor;
use super::super::trace::Dim;
use super::common::{axis, unknown};

pub(super) fn convert(b: &mut Builder, operation: &BaseOperationIr) -> Result<(), String> {
    use BaseOperationIr as Op;
    match operation {
        Op::Reshape(op) => {
            let dims = b.dims(&op.out);
            let inputs = [b.name(&op.input), b.inferred_shape(&dims)];
            b.made("Reshape", &inputs, &[], &op.out);
        }
        Op::Expand(op) => expand(b, &op.input, &op.out),
        Op::SwapDims(op) => {
            let mut order: Vec<i64> = (0..op.input.shape.rank() as i64).collect();
            order.swap(op.dim1, op.dim2);
            transpose(b, &op.input, &order, &op.out);
        }
        Op::Permute(op) => {
            let order: Vec<i64> = op.axes.iter().map(|axis| *axis as i64).collect();
            transpose(b, &op.input, &order, &op.out);
        }
        Op::Flip(op) => {
            let axes: Vec<i64> = op.axes.iter().map(|axis| *axis as i64).collect();
            let cuts = axes.iter().map(|axis| Cut {
                axis: *axis,
                start: -1,
                end: i64::MIN,
                step: -1,
            });
            cut(b, &op.input, &cuts.collect::<Vec<_>>(), &op.out);
        }
        Op::Slice(op) => slice(b, op)?,
        Op::Select(op) => {
            let inputs = [b.name(&op.tensor), b.name(&op.indices)];
            b.made("Gather", &inputs, &axis(op.dim), &op.out);
        }
        Op::Gather(op) => {
            let inputs = [b.name(&op.tensor), b.name(&op.indices)];
            b.made("GatherElements", &inputs, &axis(op.dim), &op.out);
        }
        Op::MaskWhere(op) => {
            let inputs = [b.name(&op.mask), b.name(&op.value), b.name(&op.tensor)];
            b.made("Where", &inputs, &[], &op.out);
        }
        Op::MaskFill(op) => {
            let value = b.scalar(op.value, op.tensor.dtype)?;
            let inputs = [b.name(&op.mask), value, b.name(&op.tensor)];
            b.made("Where", &inputs, &[], &op.out);
        }
        Op::Equal(op) => {
            let inputs = [b.name(&op.lhs), b.name(&op.rhs)];
            b.made("Equal", &inputs, &[], &op.out);
        }
        Op::EqualElem(op) => {
            let inputs = [b.name(&op.lhs), b.scalar(op.rhs, op.lhs.dtype)?];
            b.made("Equal", &inputs, &[], &op.out);
        }
        Op::NotEqual(op) => {
            let inputs = [b.name(&op.lhs), b.name(&op.rhs)];
            let equal = b.node("Equal", &inputs, &[]);
            b.made("Not", &[equal], &[], &op.out);
        }
        Op::NotEqualElem(op) => {
            let inputs = [b.name(&op.lhs), b.scalar(op.rhs, op.lhs.dtype)?];
            let equal = b.node("Equal", &inputs, &[]);
            b.made("Not", &[equal], &[], &op.out);
        }
        Op::Cat(op) => {
            let inputs: Vec<_> = op.tensors.iter().map(|tensor| b.name(tensor)).collect();
            b.made("Concat", &inputs, &axis(op.dim), &op.out);
        }
        Op::RepeatDim(op) => match b.dims(&op.tensor)[op.dim] {
            Dim::Fixed(1) => expand(b, &op.tensor, &op.out),
            _ => {
                let mut times = vec![1; op.tensor.shape.rank()];
                times[op.dim] = op.times as i64;
                let inputs = [b.name(&op.tensor), b.ints(&times)];
                b.made("Tile", &inputs, &[], &op.out);
            }
        },
        Op::Cast(op) => cast(b, &op.input, &op.out)?,
        Op::Zeros(op) | Op::Empty(op) => full(b, ScalarIr::Int(0), &op.out)?,
        Op::Ones(op) => full(b, ScalarIr::Int(1), &op.out)?,
        Op::AllDim(op) => all(b, "ReduceMin", &op.input, &[op.axis as i64], &op.out),
        Op::AnyDim(op) => all(b, "ReduceMax", &op.input, &[op.axis as i64], &op.out),
        other => return Err(unknown(other)),
    }
    Ok(())
}

fn transpose(b: &mut Builder, input: &TensorIr, order: &[i64], out: &TensorIr) {
    let input = b.name(input);
    b.made("Transpose", &[input], &[("perm", Set::Ints(order))], out);
}

fn expand(b: &mut Builder, input: &TensorIr, out: &TensorIr) {
    let dims = b.dims(out);
    let inputs = [b.name(input), b.shape(&dims)];
    b.made("Expand", &inputs, &[], out);
}

pub(super) fn cast(b: &mut Builder, input: &TensorIr, out: &TensorIr) -> Result<(), String> {
    let to = [("to", Set::Int(i64::from(element(out.dtype)?)))];
    let (same, input) = (input.dtype == out.dtype, b.name(input));
    match same {
        true => b.made("Identity", &[input], &[], out),
        false => b.made("Cast", &[input], &to, out),
    }
    Ok(())
}

/// A tensor of one value.
pub(super) fn full(b: &mut Builder, value: ScalarIr, out: &TensorIr) -> Result<(), String> {
    let dims = b.dims(out);
    let shape = b.shape(&dims);
    let value = Tensor {
        dims: vec![1],
        data_type: Some(element(out.dtype)?),
        raw_data: Some(scalar(value, out.dtype)?.as_bytes().to_vec()),
        ..Tensor::default()
    };
    b.made(
        "ConstantOfShape",
        &[shape],
        &[("value", Set::Tensor(value))],
        out,
    );
    Ok(())
}

/// A reduction of truth values, which ONNX has for numbers alone.
fn all(b: &mut Builder, op: &str, input: &TensorIr, axes: &[i64], out: &TensorIr) {
    const INT32: i64 = 6;
    const BOOL: i64 = 9;
    let input = b.name(input);
    let numbers = b.node("Cast", &[input], &[("to", Set::Int(INT32))]);
    let settings = [("axes", Set::Ints(axes)), ("keepdims", Set::Int(1))];
    let reduced = b.node(op, &[numbers], &settings);
    b.made("Cast", &[reduced], &[("to", Set::Int(BOOL))], out);
}

/// What is kept of an axis.
struct Cut {
    axis: i64,
    start: i64,
    end: i64,
    step: i64,
}

fn cut(b: &mut Builder, input: &TensorIr, cuts: &[Cut], out: &TensorIr) {
    let of = |part: fn(&Cut) -> i64| cuts.iter().map(part).collect::<Vec<_>>();
    let (starts, ends) = (of(|cut| cut.start), of(|cut| cut.end));
    let (axes, steps) = (of(|cut| cut.axis), of(|cut| cut.step));
    let input = b.name(input);
    match cuts.is_empty() {
        true => b.made("Identity", &[input], &[], out),
        false => {
            let settings = [starts, ends, axes, steps].map(|numbers| b.ints(&numbers));
            let [starts, ends, axes, steps] = settings;
            b.made("Slice", &[input, starts, ends, axes, steps], &[], out);
        }
    }
}

fn slice(b: &mut Builder, op: &SliceOpIr) -> Result<(), String> {
    let dims = b.dims(&op.tensor);
    let mut cuts = Vec::new();
    for (at, range) in op.ranges.iter().enumerate() {
        let extent = op.tensor.shape[at] as i64;
        let place = |end: isize| match end as i64 {
            end if end < 0 => end + extent,
            end => end.min(extent),
        };
        let start = place(range.start);
        let end = range.end.map_or(extent, place);
        let step = range.step as i64;
        if (start, end, step) == (0, extent, 1) {
            continue;
        }
        if !matches!(dims.get(at), Some(Dim::Fixed(_))) {
            return Err("it takes a part of a batch".into());
        }
        // Backwards, the range is the same, from its last element to its first.
        let (start, end) = match step < 0 {
            false => (start, end),
            true if start == 0 => (end - 1, i64::MIN),
            true => (end - 1, start - 1),
        };
        cuts.push(Cut {
            axis: at as i64,
            start,
            end,
            step,
        });
    }
    cut(b, &op.tensor, &cuts, &op.out);
    Ok(())
}
