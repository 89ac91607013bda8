//! Residual blocks of convolutional networks in evaluation mode, channels last: a strip of lines goes through all layers of a block while
//! it is in the cache of one core.
#![allow(clippy::large_enum_variant, reason = "a model has a few blocks")]

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::affine::{Affine, sized};
use super::lines::{Depthwise, Lines};
use super::norm::Norm;
use super::product::Onto;
use super::quantised::Scratch;
use super::stack::Mlp;
use super::{part_of, take, tensor, vectorized};
use crate::layers::activation::Activation;

/// Pixels that one core computes at a time.
const PIXELS: usize = 132;
/// Numbers between the products of an inverted bottleneck that one core has in its cache.
const CACHE: usize = 1 << 18;
/// Side of the windows of [`Shortcut::Mean`], whose stride is 2.
const WINDOW: usize = 3;

/// A block with channels last.
#[derive(Debug)]
pub(crate) enum Block {
    Next(Next),
    Inverted(Inverted),
}

/// `x + mlp(norm(depthwise(x)))` (ConvNeXt's).
#[derive(Debug)]
pub(crate) struct Next {
    pub depthwise: Depthwise,
    pub norm: Norm,
    pub mlp: Mlp,
}

/// `shortcut(x) + proj(activation(depthwise(activation(fc(norm(x))))))`.
#[derive(Debug)]
pub(crate) struct Inverted {
    pub norm: Norm,
    pub fc: Affine,
    pub activation: Activation,
    pub depthwise: Depthwise,
    pub proj: Affine,
    pub shortcut: Shortcut,
}

/// What a branch is added to.
#[derive(Debug)]
pub(crate) enum Shortcut {
    /// The block's input.
    Same,
    /// The mean of 3×3 windows at stride 2, of what they meet of the picture, and what a pointwise convolution makes of it.
    Mean(Option<Affine>),
}

/// Blocks behind one another.
#[derive(Debug, Clone)]
pub(crate) struct Maps(Arc<Vec<Block>>);

/// Sizes of a batch of maps.
#[derive(Debug, Clone, Copy)]
struct Size {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
}

/// Buffers of one core.
#[derive(Debug, Default)]
struct Buffers {
    normal: Vec<f32>,
    wide: Vec<f32>,
    narrow: Vec<f32>,
    lines: Lines,
    scratch: Scratch,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

/// Computes lines of the output, some at a time on each core: `work` fills in those of a range.
fn strips(
    lines: usize,
    at_once: usize,
    out: &mut [f32],
    work: impl Fn(&mut Buffers, Range<usize>, &mut [f32]) + Sync,
) {
    let (strip, line) = (part_of(lines, at_once), out.len() / lines.max(1));
    let parts = out.par_chunks_mut((strip * line).max(1)).enumerate();
    parts.for_each(|(index, out)| {
        let mut buffers = BUFFERS.take();
        let first = index * strip;
        work(&mut buffers, first..first + out.len() / line, out);
        BUFFERS.set(buffers);
    });
}

/// The first numbers of what is left, which is the rest then.
fn next_of<'a>(rest: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    let (own, later) = std::mem::take(rest).split_at_mut(count);
    *rest = later;
    own
}

/// The parts of a range of a batch's lines that are of one picture: its number, and which of its lines.
fn pictures(lines: Range<usize>, height: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut next = lines.start;
    std::iter::from_fn(move || {
        let (picture, first) = (next / height, next % height);
        let count = (height - first).min(lines.end.checked_sub(next).filter(|rest| *rest > 0)?);
        next += count;
        Some((picture, first..first + count))
    })
}

impl Maps {
    pub(crate) fn new(blocks: Vec<Block>) -> Self {
        Self(Arc::new(blocks))
    }

    /// `[batch, height, width, channels]` in f32 on the CPU through all blocks.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let ([batch, height, width, channels], device) = (x.dims(), x.device());
        let mut size = Size {
            batch,
            height,
            width,
            channels,
        };
        let (mut x, mut out) = (take(x), Vec::new());
        for block in &*self.0 {
            let next = block.size(size);
            out.resize(next.numbers(), 0.0);
            match block {
                Block::Next(block) => block.forward(&x, size, &mut out),
                Block::Inverted(block) => block.forward(&x, [size, next], &mut out),
            }
            size = next;
            std::mem::swap(&mut x, &mut out);
        }
        let shape = [size.batch, size.height, size.width, size.channels];
        tensor(x, shape, &device)
    }
}

impl Size {
    fn numbers(self) -> usize {
        self.batch * self.height * self.lines(1)
    }

    /// Numbers of so many lines.
    fn lines(self, count: usize) -> usize {
        count * self.width * self.channels
    }

    /// The numbers of some lines of a picture.
    fn of<'a>(&self, x: &'a [f32], picture: usize, lines: &Range<usize>) -> &'a [f32] {
        let start = picture * self.height + lines.start;
        &x[self.lines(start)..][..self.lines(lines.len())]
    }
}

impl Block {
    /// Of the output.
    fn size(&self, size: Size) -> Size {
        match self {
            Self::Next(_) => size,
            Self::Inverted(block) => Size {
                height: block.depthwise.shrunk(size.height),
                width: block.depthwise.shrunk(size.width),
                channels: block.proj.outputs(),
                ..size
            },
        }
    }
}

impl Next {
    fn forward(&self, x: &[f32], size: Size, out: &mut [f32]) {
        let at_once = PIXELS.div_ceil(size.width);
        strips(
            size.batch * size.height,
            at_once,
            out,
            |buffers, strip, out| {
                let narrow = sized(&mut buffers.narrow, out.len());
                let (mut to, mut kept) = (&mut *narrow, &mut *out);
                for (picture, lines) in pictures(strip, size.height) {
                    let reach = self.depthwise.reach();
                    let count = lines.len() + 2 * reach;
                    buffers.lines.reset(&self.depthwise, count, size.width);
                    let from = lines.start.saturating_sub(reach);
                    let read = from..(lines.end + reach).min(size.height);
                    let first = from + reach - lines.start;
                    let read = size.of(x, picture, &read).chunks_exact(size.lines(1));
                    for (line, pixels) in read.enumerate() {
                        buffers.lines.put(first + line, pixels);
                    }
                    let own = next_of(&mut to, size.lines(lines.len()));
                    self.depthwise.forward(&buffers.lines, size.width, own);
                    let own = next_of(&mut kept, size.lines(lines.len()));
                    own.copy_from_slice(size.of(x, picture, &lines));
                }
                let normal = sized(&mut buffers.normal, out.len());
                self.norm.write(narrow, normal);
                let Mlp { fc, proj, .. } = &self.mlp;
                let pixels = out.len() / size.channels;
                let hidden = sized(&mut buffers.wide, pixels * fc.outputs());
                fc.forward(normal, hidden, Onto::Nothing, &mut buffers.scratch);
                self.mlp.activation.curve().apply(hidden);
                proj.forward(hidden, out, Onto::Itself, &mut buffers.scratch);
            },
        );
    }
}

impl Inverted {
    fn forward(&self, x: &[f32], [size, next]: [Size; 2], out: &mut [f32]) {
        let (reach, stride) = (self.depthwise.reach(), self.depthwise.stride());
        let inner = Size {
            channels: self.fc.outputs(),
            ..size
        };
        let at_once = (CACHE / inner.lines(stride)).max(1);
        strips(
            next.batch * next.height,
            at_once,
            out,
            |buffers, strip, mut out| {
                for (picture, lines) in pictures(strip, next.height) {
                    let own = next_of(&mut out, next.lines(lines.len()));
                    // Lines under the kernels, of which those beyond the border stay zeros.
                    let top = lines.start * stride;
                    let count = (lines.len() - 1) * stride + 1 + 2 * reach;
                    let from = top.saturating_sub(reach);
                    let to = (top + count - reach).min(size.height);
                    let read = size.of(x, picture, &(from..to));
                    let normal = sized(&mut buffers.normal, read.len());
                    self.norm.write(read, normal);
                    let hidden = sized(&mut buffers.wide, inner.lines(to - from));
                    let scratch = &mut buffers.scratch;
                    self.fc.forward(normal, hidden, Onto::Nothing, scratch);
                    self.activation.curve().apply(hidden);
                    buffers.lines.reset(&self.depthwise, count, size.width);
                    let rows = hidden.chunks_exact(inner.lines(1)).enumerate();
                    rows.for_each(|(line, pixels)| {
                        buffers.lines.put(from + reach - top + line, pixels);
                    });
                    let pixels = lines.len() * next.width;
                    let narrow = sized(&mut buffers.narrow, pixels * inner.channels);
                    self.depthwise.forward(&buffers.lines, next.width, narrow);
                    self.activation.curve().apply(narrow);
                    match &self.shortcut {
                        Shortcut::Same => own.copy_from_slice(size.of(x, picture, &lines)),
                        Shortcut::Mean(None) => mean(x, size, picture, lines, own),
                        Shortcut::Mean(Some(expand)) => {
                            let means = sized(&mut buffers.normal, pixels * size.channels);
                            mean(x, size, picture, lines, means);
                            expand.forward(means, own, Onto::Nothing, scratch);
                        }
                    }
                    self.proj.forward(narrow, own, Onto::Itself, scratch);
                }
            },
        );
    }
}

/// Some lines of what [`Shortcut::Mean`] makes of a picture.
fn mean(x: &[f32], size: Size, picture: usize, lines: Range<usize>, out: &mut [f32]) {
    let map = size.of(x, picture, &(0..size.height));
    let met = |at: usize, side: usize| {
        let middle = at * 2;
        middle.saturating_sub(WINDOW / 2)..(middle + WINDOW / 2 + 1).min(side)
    };
    let columns = size.width.div_ceil(2);
    vectorized(
        #[inline(always)]
        || {
            for (place, out) in out.chunks_exact_mut(size.channels).enumerate() {
                let rows = met(lines.start + place / columns, size.height);
                let across = met(place % columns, size.width);
                let factor = 1.0 / (rows.len() * across.len()) as f32;
                out.fill(0.0);
                for row in rows {
                    for column in across.clone() {
                        let pixel = &map[(row * size.width + column) * size.channels..];
                        out.iter_mut().zip(pixel).for_each(|(out, x)| *out += x);
                    }
                }
                out.iter_mut().for_each(|out| *out *= factor);
            }
        },
    );
}
