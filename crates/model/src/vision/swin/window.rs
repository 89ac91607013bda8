//! Windows of a feature map, and attention inside them (timm's `WindowAttention` and what its block does around it).

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::arch::StageSize;
use crate::layers::relative::{biased_attention, displacements, scores};
use crate::layers::{Linear, PerSize, parameter};

/// What a score loses when query and key came from different sides of the map's edge.
const APART: f32 = -100.0;

/// Self-attention inside windows, with a score for each displacement.
#[derive(Module, Debug)]
pub struct WindowAttention {
    /// `[(2·rows − 1)·(2·columns − 1), heads]`, from the key down and right of the query to the one up and left.
    pub relative_position_bias_table: Param<Tensor<2>>,
    /// `width → 3·width`: query, key and value side by side.
    pub qkv: Linear,
    /// `width → width`.
    pub proj: Linear,
    /// Rows and columns of a window.
    #[module(skip)]
    window: [usize; 2],
    /// Rows and columns by which the map is rolled before it is cut.
    #[module(skip)]
    shift: [usize; 2],
    #[module(skip)]
    displacements: PerSize<Tensor<1, Int>>,
    /// What scores lose in each window of a map, by the windows down and across.
    #[module(skip)]
    apart: PerSize<Tensor<4>>,
}

impl WindowAttention {
    /// Attention of a stage's block, with shifted windows or not.
    pub fn new(size: StageSize, shifted: bool, qkv_bias: bool, device: &Device) -> Self {
        let StageSize { width, heads, .. } = size;
        let table = size.window.map(|side| 2 * side - 1).iter().product();
        Self {
            relative_position_bias_table: parameter([table, heads], device),
            qkv: Linear::new(width, 3 * width, qkv_bias, device),
            proj: Linear::new(width, width, true, device),
            window: size.window,
            shift: if shifted { size.shift } else { [0; 2] },
            displacements: PerSize::default(),
            apart: PerSize::default(),
        }
    }

    /// Rows and columns of a window.
    pub fn window(&self) -> [usize; 2] {
        self.window
    }

    /// `[batch, height, width, channels]` → the same shape.
    ///
    /// The map is rolled by the shift, filled up with zeros at the bottom and at the right to whole windows, and cut.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let [rows, columns] = self.window;
        let [down, right] = self.shift;
        let (high, wide) = (height.div_ceil(rows), width.div_ceil(columns));
        let x = roll(roll(x, 1, down % height), 2, right % width);
        let x = pad_end(x, 1, high * rows - height);
        let x = pad_end(x, 2, wide * columns - width);
        let windows = x
            .reshape([batch, high, rows, wide, columns, channels])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([batch * high * wide, rows * columns, channels]);
        let bias = self.bias(high, wide, &windows.device());
        let x = biased_attention(windows, &self.qkv, &self.proj, bias)
            .reshape([batch, high, wide, rows, columns, channels])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([batch, high * rows, wide * columns, channels])
            .slice([0..batch, 0..height, 0..width, 0..channels]);
        let x = roll(x, 1, (height - down % height) % height);
        roll(x, 2, (width - right % width) % width)
    }

    /// Scores of `high·wide` windows, `[high·wide, heads, area, area]`, or of all alike with 1 in the first place.
    fn bias(&self, high: usize, wide: usize, device: &Device) -> Tensor<4> {
        let [rows, columns] = self.window;
        let area = rows * columns;
        let index = || displacements(rows, columns, device);
        let index = self.displacements.get(self.window, device, index);
        let scores = scores(self.relative_position_bias_table.val(), index, area);
        if self.shift == [0; 2] {
            return scores;
        }
        let apart = || self.apart(high, wide, device);
        scores + self.apart.get([high, wide], device, apart)
    }

    /// Zero between places of a window that were neighbours before the map was rolled, [`APART`] between others.
    fn apart(&self, high: usize, wide: usize, device: &Device) -> Tensor<4> {
        let [rows, columns] = self.window;
        let area = rows * columns;
        let sides = [0, 1].map(|axis| {
            let count = [high, wide][axis];
            sides(
                count * self.window[axis],
                self.window[axis],
                self.shift[axis],
            )
        });
        let mut apart = Vec::with_capacity(high * wide * area * area);
        for window in 0..high * wide {
            let (top, left) = (window / wide * rows, window % wide * columns);
            let place = |i: usize| (sides[0][top + i / columns], sides[1][left + i % columns]);
            for query in 0..area {
                apart.extend((0..area).map(|key| match place(query) == place(key) {
                    true => 0.0,
                    false => APART,
                }));
            }
        }
        let apart = TensorData::new(apart, [high * wide, 1, area, area]);
        Tensor::from_data(apart, device)
    }
}

/// Which positions along an axis were neighbours before it was rolled: those before the last window, those of its first part, and
/// those that came around from the other end.
fn sides(length: usize, window: usize, shift: usize) -> Vec<u8> {
    let side = |position| match position {
        _ if shift == 0 => 0,
        _ if position < length - window => 0,
        _ if position < length - shift => 1,
        _ => 2,
    };
    (0..length).map(side).collect()
}

/// Moves what lies at `first` along `dim` to the beginning, and what lay before it to the end.
fn roll(x: Tensor<4>, dim: usize, first: usize) -> Tensor<4> {
    if first == 0 {
        return x;
    }
    let length = x.dims()[dim];
    let tail = x.clone().slice_dim(dim, first..length);
    Tensor::cat(vec![tail, x.slice_dim(dim, 0..first)], dim)
}

/// Adds `count` zeros at the end of `dim`.
pub(super) fn pad_end(x: Tensor<4>, dim: usize, count: usize) -> Tensor<4> {
    if count == 0 {
        return x;
    }
    let mut shape = x.dims();
    shape[dim] = count;
    let zeros = Tensor::zeros(shape, (&x.device(), x.dtype()));
    Tensor::cat(vec![x, zeros], dim)
}
