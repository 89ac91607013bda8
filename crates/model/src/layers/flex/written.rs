//! Products with a matrix that is packed once, and buffers that are written once.

use std::mem::MaybeUninit;

use rten_gemm::{
    BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, GemmUninitOptions, PackedBMatrix,
};
use rten_tensor::NdTensorView;

/// The kernels of this processor.
fn products() -> GemmExecutor<f32> {
    GemmExecutor::new()
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

/// `[inner, columns]` for products with it.
pub(super) fn pack(matrix: &[f32], inner: usize, columns: usize) -> PackedBMatrix<f32> {
    products().prepack_b(rows(matrix, [inner, columns]))
}

/// The transpose of `[columns, inner]` for products with it.
pub(super) fn pack_transposed(matrix: &[f32], columns: usize, inner: usize) -> PackedBMatrix<f32> {
    products().prepack_b(rows(matrix, [columns, inner]).transposed())
}

/// A matrix, row after row.
pub(super) fn rows(values: &[f32], shape: [usize; 2]) -> NdTensorView<'_, f32, 2> {
    NdTensorView::from_data(shape, values)
}

/// `x · matrix` and `share` of what is in `out`.
pub(super) fn product(
    x: NdTensorView<'_, f32, 2>,
    matrix: &PackedBMatrix<f32>,
    share: f32,
    out: &mut [f32],
) -> Option<()> {
    let (a, b) = (GemmInputA::Unpacked(x), GemmInputB::Packed(matrix));
    let options = GemmOptions {
        beta: share,
        ..GemmOptions::default()
    };
    products().gemm(out, a, b, options).ok()
}

/// `x · matrix + bias`, where `bias` is added to every row.
pub(super) fn biased<'a>(
    x: &[f32],
    matrix: &PackedBMatrix<f32>,
    bias: &[f32],
    out: &'a mut [MaybeUninit<f32>],
) -> Option<&'a mut [f32]> {
    let x = rows(x, [x.len() / matrix.rows(), matrix.rows()]);
    let (a, b) = (GemmInputA::Unpacked(x), GemmInputB::Packed(matrix));
    let options = GemmUninitOptions {
        bias: Some(BiasVector::Row(bias)),
        ..Default::default()
    };
    products().gemm_uninit(out, a, b, options).ok()
}
