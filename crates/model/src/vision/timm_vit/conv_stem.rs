//! Patches by three convolutions in place of one (timm's `ConvStem` as `vit_base_mci_224` has it).

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::layers::batch_norm::PendingStatistics;
use crate::layers::folded::ConvNorm;
use crate::layers::{Activation, BatchNorm2d, Conv2d};

/// Pixels along the side of what becomes one token: 4·2·2.
pub const PATCH: usize = 16;

/// Width of the tokens relative to that of the layers before the last.
pub const NARROW: usize = 4;

/// A convolution under timm's name of the layer around it.
#[derive(Module, Debug)]
pub struct LastConv {
    /// With bias.
    pub conv: Conv2d,
}

/// Convolutions whose strides are their kernels: 4×4 and 2×2 with BatchNorm and GELU, then 2×2.
pub type ConvStem = (ConvNorm, ConvNorm, LastConv);

/// A stem that gives tokens of `width`, a multiple of [`NARROW`].
pub fn conv_stem(width: usize, pending: &PendingStatistics, device: &Device) -> ConvStem {
    let narrow = width / NARROW;
    let normed = |input, side| {
        let conv = Conv2d::new(input, narrow, side, side, device);
        ConvNorm::new(conv, BatchNorm2d::new(narrow, pending, device))
    };
    let conv = Conv2d::new(narrow, width, 2, 2, device).biased(device);
    (normed(3, 4), normed(narrow, 2), LastConv { conv })
}

/// `[batch, 3, height, width]` → `[batch, rows·columns, width]`, row by row.
pub fn tokens((first, second, last): &ConvStem, image: Tensor<4>, training: bool) -> Tensor<3> {
    let x = Activation::Gelu.forward(first.forward(image, training));
    let x = Activation::Gelu.forward(second.forward(x, training));
    let x = last.conv.forward(x);
    let [batch, width, rows, columns] = x.dims();
    x.reshape([batch, width, rows * columns]).swap_dims(1, 2)
}
