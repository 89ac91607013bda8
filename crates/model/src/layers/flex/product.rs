//! Matrix products in f32: `rten-gemm`'s kernels, on rayon's threads, with operands read where they lie.
//!
//! A product adds up in an order that depends on its inner dimension alone, neither on the number of threads nor on the other rows;
//! a product of a single row by weights that are not packed takes another.

use std::fmt;
use std::mem::MaybeUninit;

use rayon::prelude::*;
use rten_gemm::{
    BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, GemmUninitOptions, PackedBMatrix,
};
use rten_tensor::NdTensorView;

/// A matrix with strides. Its numbers may be the columns of a wider one.
#[derive(Debug, Clone, Copy)]
pub(in crate::layers) struct Matrix<'a> {
    pub values: &'a [f32],
    /// Rows and columns.
    pub shape: [usize; 2],
    /// From a row to the next, and from a column to the next.
    pub strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Row after row of `columns`.
    pub(super) fn rows(values: &'a [f32], columns: usize) -> Self {
        Self {
            values,
            shape: [values.len() / columns.max(1), columns],
            strides: [columns, 1],
        }
    }

    /// `columns` of `rows` that are `stride` apart, the first number being that of `values`.
    pub(super) fn strided(values: &'a [f32], [rows, columns]: [usize; 2], stride: usize) -> Self {
        Self {
            values,
            shape: [rows, columns],
            strides: [stride, 1],
        }
    }

    pub(super) fn transposed(self) -> Self {
        let ([rows, columns], [down, right]) = (self.shape, self.strides);
        Self {
            shape: [columns, rows],
            strides: [right, down],
            ..self
        }
    }

    /// `None` for a matrix without numbers.
    fn view(&self) -> Option<NdTensorView<'a, f32, 2>> {
        let [rows, columns] = self.shape;
        let last =
            rows.checked_sub(1)? * self.strides[0] + columns.checked_sub(1)? * self.strides[1];
        let values = self.values.get(..=last)?;
        NdTensorView::from_data_with_strides(self.shape, values, self.strides).ok()
    }
}

/// The right operand of a product.
#[derive(Debug, Clone, Copy)]
pub(super) enum Right<'a> {
    Plain(Matrix<'a>),
    Packed(&'a Packed),
}

/// A right operand in the order in which the kernels read it.
pub(super) struct Packed(PackedBMatrix<f32>);

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed[{}, {}]", self.0.rows(), self.0.cols())
    }
}

impl Packed {
    /// `None` for a matrix without numbers.
    pub(super) fn new(matrix: Matrix<'_>) -> Option<Self> {
        Some(Self(
            GemmExecutor::<f32>::default().prepack_b(matrix.view()?),
        ))
    }

    /// Rows, which the left operand has as columns.
    pub(super) fn inner(&self) -> usize {
        self.0.rows()
    }

    /// Columns.
    pub(super) fn columns(&self) -> usize {
        self.0.cols()
    }
}

/// What becomes of what lies in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// It is overwritten.
    Nothing,
    /// The product is added to it.
    Itself,
}

/// `out = factor·a·b + bias`, row after row, or the same added to what is there.
pub(super) fn product(
    a: Matrix<'_>,
    b: Right<'_>,
    factor: f32,
    bias: Option<&[f32]>,
    out: &mut [f32],
    onto: Onto,
) {
    if out.is_empty() {
        return;
    }
    let options = GemmOptions {
        alpha: factor,
        beta: match onto {
            Onto::Nothing => 0.0,
            Onto::Itself => 1.0,
        },
        bias: bias.map(BiasVector::Row),
        ..GemmOptions::default()
    };
    let done = operands(a, b).map(|(a, b)| GemmExecutor::<f32>::default().gemm(out, a, b, options));
    // Who multiplies has matrices that fit.
    match done {
        Some(Ok(())) => {}
        Some(Err(reason)) => unreachable!("{reason}"),
        None => unreachable!("a product over no numbers"),
    }
}

/// Both operands as `rten-gemm` takes them; `None` of no numbers.
fn operands<'a>(a: Matrix<'a>, b: Right<'a>) -> Option<(GemmInputA<'a, f32>, GemmInputB<'a, f32>)> {
    let b = match b {
        Right::Packed(packed) => GemmInputB::Packed(&packed.0),
        Right::Plain(b) => GemmInputB::Unpacked(b.view()?),
    };
    Some((GemmInputA::Unpacked(a.view()?), b))
}

/// `a·b + bias` into memory that holds nothing yet; `bias` is added to every row.
pub(super) fn biased<'a>(
    a: Matrix<'_>,
    b: Right<'_>,
    bias: Option<&[f32]>,
    out: &'a mut [MaybeUninit<f32>],
) -> Option<&'a mut [f32]> {
    let (a, b) = operands(a, b)?;
    let options = GemmUninitOptions {
        bias: bias.map(BiasVector::Row),
        ..GemmUninitOptions::default()
    };
    let done = GemmExecutor::<f32>::default().gemm_uninit(out, a, b, options);
    done.ok()
}

/// The same in memory of its own.
pub(super) fn produced(a: Matrix<'_>, b: Right<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let columns = match b {
        Right::Packed(packed) => packed.columns(),
        Right::Plain(b) => b.shape[1],
    };
    let done = filled(a.shape[0] * columns, |out| {
        biased(a, b, bias, out).map(|_| ())
    });
    // Who multiplies has matrices that fit.
    done.unwrap_or_else(|| {
        unreachable!("a product over no numbers, or of matrices that do not fit")
    })
}

/// Columns that one core turns into rows at a time.
const STRIP: usize = 64;
/// Rows and columns that are turned within the registers and the nearest cache.
const SIDE: usize = 16;

/// Rows of `columns` numbers as columns, row after row. A left operand whose rows are whole is read where it lies; of another every core
/// puts its share in order several times, and numbers that are a multiple of 4 KiB apart push each other out of the cache then.
pub(super) fn turned(values: &[f32], columns: usize) -> Vec<f32> {
    if values.is_empty() {
        return Vec::new();
    }
    let rows = values.len() / columns;
    let done = filled(rows * columns, |out| {
        let strips = out.par_chunks_mut(STRIP * rows).enumerate();
        strips.for_each(|(strip, out)| {
            for top in (0..rows).step_by(SIDE) {
                let height = SIDE.min(rows - top);
                for (i, out) in out.chunks_mut(SIDE * rows).enumerate() {
                    let (left, width) = (strip * STRIP + i * SIDE, out.len() / rows);
                    let mut square = [[0.0; SIDE]; SIDE];
                    for (y, line) in square.iter_mut().take(height).enumerate() {
                        let row = &values[(top + y) * columns + left..];
                        line[..width].copy_from_slice(&row[..width]);
                    }
                    for (x, out) in out.chunks_exact_mut(rows).enumerate() {
                        let out = out[top..][..height].iter_mut();
                        out.zip(&square).for_each(|(out, line)| {
                            out.write(line[x]);
                        });
                    }
                }
            }
        });
        Some(())
    });
    done.unwrap_or_default()
}

/// `length` numbers that `write` writes, every one of them unless it gives `None`.
#[allow(unsafe_code)]
pub(super) fn filled(
    length: usize,
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> Option<()>,
) -> Option<Vec<f32>> {
    let mut values = Vec::with_capacity(length);
    write(&mut values.spare_capacity_mut()[..length])?;
    // SAFETY: the capacity is there, and `write` has filled it. Zeros that are overwritten take a tenth of a network's time.
    unsafe { values.set_len(length) };
    Some(values)
}
