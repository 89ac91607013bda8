//! What is done to the output of a convolution while it is in the cache.

use super::activation::Curve;

/// What follows a convolution whose channels are last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish<'a> {
    /// `[channels]`.
    pub(super) bias: &'a [f32],
    /// Added to it, of the output's shape.
    pub(super) add: Option<&'a [f32]>,
    /// At the end.
    pub(super) curve: Option<Curve>,
}

impl Finish<'_> {
    /// Some channels of one place, which is the `start`-th number of the output.
    #[inline(always)]
    pub(super) fn lanes<const N: usize>(
        &self,
        mut values: [f32; N],
        start: usize,
        channel: usize,
    ) -> [f32; N] {
        let bias = &self.bias[channel..channel + N];
        values.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        self.rest(&mut values, start);
        values
    }

    /// All but the bias, for values from the `start`-th number of the output on.
    #[inline(always)]
    pub(super) fn rest(&self, values: &mut [f32], start: usize) {
        if let Some(add) = self.add {
            let add = &add[start..start + values.len()];
            values.iter_mut().zip(add).for_each(|(x, add)| *x += add);
        }
        if let Some(curve) = self.curve {
            curve.of(values);
        }
    }
}
