//! Pre-norm residual blocks in evaluation mode: weights packed once, a few buffers for all blocks, the residual stream in its place.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use burn::module::Param;
use burn::tensor::Tensor;

use super::attention::{Heads, Sequence, Tokens, attend};
use super::norm::normalise;
use super::product::{Matrix, Onto, Packed, Right, product};
use super::quantised::{Quantised, Scratch};
use super::{Values, tensor};
use crate::layers::activation::Activation;
use crate::layers::linear::Linear;
use crate::layers::norm::{LayerNorm, LayerScale};

/// Rows that go through a block together; one sequence at least does.
const ROWS: usize = 512;

/// LayerNorm.
#[derive(Debug)]
pub(crate) struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    eps: f32,
}

impl Norm {
    /// `None` where a parameter cannot be read.
    pub(crate) fn of(norm: &LayerNorm) -> Option<Self> {
        let read = |x: &Param<Tensor<1>>| Some(Values::of(&x.val())?.get().to_vec());
        Some(Self {
            scale: read(&norm.weight)?,
            shift: read(&norm.bias)?,
            eps: norm.eps() as f32,
        })
    }

    fn forward(&self, x: &[f32], out: &mut [f32]) {
        normalise(x, &self.scale, &self.shift, self.eps, out);
    }
}

/// A linear layer.
#[derive(Debug)]
pub(crate) struct Affine {
    weight: Values,
    bias: Option<Vec<f32>>,
    output: usize,
    /// Whether the layer was asked for anything: one that is asked once is not worth packing.
    used: AtomicBool,
    packed: OnceLock<Option<Packed>>,
    quantised: Option<Quantised>,
}

impl Affine {
    /// A layer, its output times `scale`.
    pub(crate) fn of(linear: &Linear, scale: Option<&LayerScale>, bits: Bits) -> Option<Self> {
        let weight = linear.weight.val();
        let [_, output] = weight.dims();
        let bias = linear.bias.as_ref().map(Param::val);
        let scale = scale.map(|scale| scale.gamma.val());
        Self::new(&weight, bias.as_ref(), 0..output, scale.as_ref(), bits)
    }

    /// Some columns of a layer, its output times `scale`.
    pub(crate) fn new(
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
        columns: Range<usize>,
        scale: Option<&Tensor<1>>,
        bits: Bits,
    ) -> Option<Self> {
        let cut = |x: &Tensor<1>| x.clone().slice_dim(0, columns.clone());
        let weight = weight.clone().slice_dim(1, columns.clone());
        let (weight, bias) = match scale {
            None => (weight, bias.map(cut)),
            Some(scale) => (
                weight * cut(scale).unsqueeze(),
                bias.map(|bias| cut(bias) * cut(scale)),
            ),
        };
        let bias = match bias {
            Some(bias) => Some(Values::of(&bias)?.get().to_vec()),
            None => None,
        };
        let weight = Values::view(&weight)?;
        Some(Self {
            quantised: (bits == Bits::Eight).then(|| Quantised::new(weight.matrix())),
            weight,
            bias,
            output: columns.len(),
            used: AtomicBool::new(false),
            packed: OnceLock::new(),
        })
    }

    fn forward(&self, x: &[f32], out: &mut [f32], onto: Onto, scratch: &mut Scratch) {
        let bias = self.bias.as_deref();
        if let Some(quantised) = &self.quantised {
            return quantised.forward(x, bias, scratch, out, onto);
        }
        let rows = out.len() / self.output;
        // Weights that are not packed are multiplied by a single row in another order.
        let packed = match self.used.swap(true, Ordering::Relaxed) || rows == 1 {
            true => self
                .packed
                .get_or_init(|| Packed::new(self.weight.matrix()))
                .as_ref(),
            false => None,
        };
        let right = packed.map_or_else(|| Right::Plain(self.weight.matrix()), Right::Packed);
        let x = Matrix::rows(x, x.len() / rows.max(1));
        product(x, right, 1.0, bias, out, onto);
    }
}

/// What weights are multiplied as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bits {
    /// Numbers of f32.
    #[default]
    All,
    /// Whole numbers of 8 bits, beside activations of 8 bits.
    Eight,
}

/// A block: `x + out(attention(norm_1(x)))`, then `x + proj(activation(fc(norm_2(x))))`.
#[derive(Debug)]
pub(crate) struct Block {
    pub norm_1: Norm,
    pub query: Affine,
    /// Keys and values, side by side.
    pub seen: Affine,
    pub out: Affine,
    pub norm_2: Norm,
    pub fc: Affine,
    pub activation: Activation,
    pub proj: Affine,
    pub heads: usize,
}

/// Which tokens see which, and which are asked for.
#[derive(Debug, Clone, Copy)]
struct View<'a> {
    /// Tokens of each sequence.
    lengths: &'a [usize],
    /// A token sees itself and what comes before it.
    causal: bool,
    /// The only token of each sequence that is wanted of the last block.
    wanted: Option<&'a [usize]>,
}

/// Blocks of one width.
#[derive(Debug, Clone)]
pub(crate) struct Stack(Arc<Vec<Block>>);

/// Buffers of a block.
#[derive(Debug, Default)]
struct Buffers {
    normal: Vec<f32>,
    wide: Vec<f32>,
    mixed: Vec<f32>,
    scratch: Scratch,
}

fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

impl Stack {
    /// `None` without blocks.
    pub(crate) fn new(blocks: Vec<Block>) -> Option<Self> {
        (!blocks.is_empty()).then(|| Self(Arc::new(blocks)))
    }

    /// Itself, where it computes on tensors like `x`: in f32 on the CPU without autodiff.
    pub(crate) fn takes<const D: usize>(&self, x: &Tensor<D>) -> Option<&Self> {
        (super::takes(x) && !x.is_autodiff()).then_some(self)
    }

    /// Tokens `[batch, tokens, width]` through all blocks: the same shape. With `causal`, a token sees itself and what comes before it.
    pub(crate) fn forward(&self, x: Tensor<3>, causal: bool) -> Tensor<3> {
        let (shape, device) = (x.dims(), x.device());
        let [batch, length, width] = shape;
        let lengths = vec![length; batch];
        let view = View {
            lengths: &lengths,
            causal,
            wanted: None,
        };
        tensor(self.run(super::take(x), width, view), shape, &device)
    }

    /// The first token of each sequence, `[batch, 1, width]`; every token sees every token.
    pub(crate) fn first(&self, x: Tensor<3>) -> Tensor<3> {
        let ([batch, length, width], device) = (x.dims(), x.device());
        let (lengths, first) = (vec![length; batch], vec![0; batch]);
        let view = View {
            lengths: &lengths,
            causal: false,
            wanted: Some(&first),
        };
        tensor(
            self.run(super::take(x), width, view),
            [batch, 1, width],
            &device,
        )
    }

    /// One token of each sequence, at the place `ends`, of tokens `[rows, width]`, sequence after sequence, of which each sees itself
    /// and what comes before it: `[sequences, width]`.
    pub(crate) fn pool(&self, x: Tensor<2>, lengths: &[usize], ends: &[usize]) -> Tensor<2> {
        let ([_, width], device) = (x.dims(), x.device());
        let view = View {
            lengths,
            causal: true,
            wanted: Some(ends),
        };
        tensor(
            self.run(super::take(x), width, view),
            [lengths.len(), width],
            &device,
        )
    }

    /// Rows of tokens, sequence after sequence, through all blocks: as many rows, or one for each sequence where one is wanted.
    fn run(&self, mut x: Vec<f32>, width: usize, view: View<'_>) -> Vec<f32> {
        let mut buffers = Buffers::default();
        let mut rest = x.as_mut_slice();
        let mut kept = Vec::new();
        let mut first = 0;
        while first < view.lengths.len() {
            let mut rows = 0;
            let fits = |length: &&usize| {
                rows += **length;
                rows == **length || rows <= ROWS
            };
            let count = view.lengths[first..].iter().take_while(fits).count();
            let part = first..first + count;
            let lengths = &view.lengths[part.clone()];
            let (own, later) = rest.split_at_mut(lengths.iter().sum::<usize>() * width);
            let wanted = view.wanted.map(|wanted| &wanted[part.clone()]);
            kept.extend(self.group(
                own,
                width,
                View {
                    lengths,
                    wanted,
                    ..view
                },
                &mut buffers,
            ));
            rest = later;
            first += count;
        }
        match view.wanted {
            Some(_) => kept,
            None => x,
        }
    }

    fn group(
        &self,
        x: &mut [f32],
        width: usize,
        view: View<'_>,
        buffers: &mut Buffers,
    ) -> Vec<f32> {
        let mut start = 0;
        let mut sequences = Vec::with_capacity(view.lengths.len());
        for length in view.lengths {
            let rows = start..start + length;
            start = rows.end;
            let causal = view.causal.then_some(0);
            sequences.push(Sequence {
                queries: rows.clone(),
                keys: rows,
                causal,
            });
        }
        let Some((last, blocks)) = self.0.split_last() else {
            return Vec::new();
        };
        for block in blocks {
            block.attention(x, None, width, &sequences, buffers);
            block.mlp(x, width, buffers);
        }
        let Some(wanted) = view.wanted else {
            last.attention(x, None, width, &sequences, buffers);
            last.mlp(x, width, buffers);
            return Vec::new();
        };
        let rows = sequences.iter().zip(wanted);
        let rows: Vec<usize> = rows
            .map(|(sequence, place)| sequence.keys.start + place)
            .collect();
        for (i, (sequence, place)) in sequences.iter_mut().zip(wanted).enumerate() {
            sequence.queries = i..i + 1;
            sequence.causal = view.causal.then_some(*place);
        }
        let mut kept = select(x, &rows, width);
        last.attention(x, Some((&rows, &mut kept)), width, &sequences, buffers);
        last.mlp(&mut kept, width, buffers);
        kept
    }
}

fn select(x: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
    rows.iter()
        .flat_map(|row| &x[row * width..][..width])
        .copied()
        .collect()
}

impl Block {
    /// Adds attention to `x`, or to a copy of some of its rows, which alone ask then.
    fn attention(
        &self,
        x: &mut [f32],
        some: Option<(&[usize], &mut Vec<f32>)>,
        width: usize,
        sequences: &[Sequence],
        buffers: &mut Buffers,
    ) {
        let normal = sized(&mut buffers.normal, x.len());
        self.norm_1.forward(x, normal);
        let selected = some.as_ref().map(|(rows, _)| select(normal, rows, width));
        let asking = selected.as_deref().unwrap_or(normal);
        let wide = sized(&mut buffers.wide, 2 * x.len() + 2 * asking.len());
        let (seen, wide) = wide.split_at_mut(2 * x.len());
        let (query, scratch) = wide.split_at_mut(asking.len());
        self.seen
            .forward(normal, seen, Onto::Nothing, &mut buffers.scratch);
        self.query
            .forward(asking, query, Onto::Nothing, &mut buffers.scratch);
        let mixed = sized(&mut buffers.mixed, asking.len());
        let heads = Heads {
            count: self.heads,
            width: width / self.heads,
        };
        let tokens = [
            Tokens {
                values: query,
                stride: width,
            },
            Tokens {
                values: seen,
                stride: 2 * width,
            },
            Tokens {
                values: seen.get(width..).unwrap_or_default(),
                stride: 2 * width,
            },
        ];
        attend(tokens, sequences, heads, scratch, mixed);
        let stream = match some {
            Some((_, kept)) => kept.as_mut_slice(),
            None => x,
        };
        self.out
            .forward(mixed, stream, Onto::Itself, &mut buffers.scratch);
    }

    fn mlp(&self, x: &mut [f32], width: usize, buffers: &mut Buffers) {
        let normal = sized(&mut buffers.normal, x.len());
        self.norm_2.forward(x, normal);
        let hidden = sized(&mut buffers.wide, x.len() / width * self.fc.output);
        self.fc
            .forward(normal, hidden, Onto::Nothing, &mut buffers.scratch);
        self.activation.curve().apply(hidden);
        self.proj
            .forward(hidden, x, Onto::Itself, &mut buffers.scratch);
    }
}
