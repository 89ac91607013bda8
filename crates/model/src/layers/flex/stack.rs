//! Pre-norm residual blocks in evaluation mode: weights packed once, a few buffers for all blocks, the residual stream in its place.

use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::affine::{Affine, sized};
use super::attention::{Heads, Sequence, Tokens, attend};
use super::norm::Norm;
use super::product::Onto;
use super::quantised::Scratch;
use super::tensor;
use crate::layers::activation::Activation;

/// Rows that go through all blocks together, on one core where there are enough of them for all; one sequence at least does.
const ROWS: usize = 512;
/// Rows of them that go through an MLP together.
const SLICE: usize = 132;

/// A block: `x + out(attention(norm_1(x)))`, then `x + mlp(norm_2(x))`.
#[derive(Debug)]
pub(crate) struct Block {
    pub norm_1: Norm,
    pub query: Affine,
    /// Keys and values, side by side.
    pub seen: Affine,
    pub out: Affine,
    pub norm_2: Norm,
    pub mlp: Mlp,
    pub heads: usize,
}

/// `proj(activation(fc(x)))`, or `proj(activation(fc(x)) ⊙ beside(x))`.
#[derive(Debug)]
pub(crate) struct Mlp {
    /// On `x` before all else.
    pub norm: Option<Norm>,
    pub fc: Affine,
    pub activation: Activation,
    pub beside: Option<Affine>,
    pub proj: Affine,
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

impl Stack {
    /// `None` without blocks.
    pub(crate) fn new(blocks: Vec<Block>) -> Option<Self> {
        (!blocks.is_empty()).then(|| Self(Arc::new(blocks)))
    }

    /// Itself, where it computes on tensors like `x`: in f32 on the CPU without autodiff.
    pub(crate) fn takes<const D: usize>(&self, x: &Tensor<D>) -> Option<&Self> {
        super::evaluates(x).then_some(self)
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
        let threads = rayon::current_num_threads();
        let rows = x.len() / width.max(1);
        let most = match view.lengths.len() < threads {
            // The products share the cores.
            true => ROWS,
            false => rows.div_ceil((rows / ROWS).div_ceil(threads).max(1) * threads),
        };
        let mut rest = x.as_mut_slice();
        let mut groups = Vec::new();
        let mut first = 0;
        while first < view.lengths.len() {
            let mut rows = 0;
            let fits = |length: &&usize| {
                rows += **length;
                rows == **length || rows <= most
            };
            let count = view.lengths[first..].iter().take_while(fits).count();
            let part = first..first + count;
            let lengths = &view.lengths[part.clone()];
            let (own, later) = rest.split_at_mut(lengths.iter().sum::<usize>() * width);
            let wanted = view.wanted.map(|wanted| &wanted[part.clone()]);
            let view = View {
                lengths,
                wanted,
                ..view
            };
            groups.push((own, view));
            rest = later;
            first += count;
        }
        let kept: Vec<Vec<f32>> = groups
            .into_par_iter()
            .map(|(own, view)| self.group(own, width, view, &mut Buffers::default()))
            .collect();
        match view.wanted {
            Some(_) => kept.concat(),
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
        self.norm_1.write(x, normal);
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
        // What the cores share is not cut into slices, of which each would be too little for them.
        let slice = match x.len() / width < 2 * SLICE {
            true => x.len(),
            false => SLICE * width,
        };
        for x in x.chunks_mut(slice.max(1)) {
            let normal = sized(&mut buffers.normal, x.len());
            self.norm_2.write(x, normal);
            let normal = match &self.mlp.norm {
                None => normal,
                Some(norm) => {
                    let again = sized(&mut buffers.mixed, x.len());
                    norm.write(normal, again);
                    again
                }
            };
            let length = x.len() / width * self.mlp.fc.outputs();
            let wide = sized(&mut buffers.wide, 2 * length);
            let (hidden, beside) = wide.split_at_mut(length);
            let scratch = &mut buffers.scratch;
            self.mlp.fc.forward(normal, hidden, Onto::Nothing, scratch);
            match &self.mlp.beside {
                None => self.mlp.activation.curve().apply(hidden),
                Some(layer) => {
                    layer.forward(normal, beside, Onto::Nothing, scratch);
                    self.mlp.activation.curve().gate(hidden, beside);
                }
            }
            self.mlp.proj.forward(hidden, x, Onto::Itself, scratch);
        }
    }
}
