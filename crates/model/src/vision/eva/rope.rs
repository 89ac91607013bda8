//! Axial rotary position embedding of picture patches (RoFormer, <https://arxiv.org/abs/2104.09864>; timm's
//! `RotaryEmbeddingCat`).

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::layers::PerSize;
use crate::layers::patch::KeptPatches;

/// How the place of a patch becomes angles.
///
/// One half of a head's feature pairs is turned by the row, the other by the column. Along an axis of `n` patches, patch `i`
/// has the coordinate `(i + offset)·reference / n`, and pair `j` of the half's `m` turns by `coordinate·temperature^(−j/m)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    /// Features of a head, a multiple of four.
    pub head_width: usize,
    /// Rows and columns that a grid of any size is stretched to; coordinates count patches when absent.
    pub reference: Option<(usize, usize)>,
    /// Added to the number of a row and of a column.
    pub offset: f64,
    /// The first half is the column's, not the row's.
    pub columns_first: bool,
    /// Inverse of the slowest frequency, nearly.
    pub temperature: f64,
}

/// Sines and cosines of every patch of a grid, on the host: `[rows·columns, head_width / 2]`, row by row of the grid.
#[derive(Debug, Clone)]
pub struct RopeTable {
    sines: Vec<f32>,
    cosines: Vec<f32>,
    pairs: usize,
    prefix: usize,
    /// Of all tokens.
    whole: PerSize<Rotation>,
}

impl RopeTable {
    /// The table of a grid of `(rows, columns)` whose tokens follow `prefix` others, which are not turned.
    pub fn new(config: &RopeConfig, grid: (usize, usize), prefix: usize) -> Self {
        let bands = config.head_width / 4;
        // In f32 and in this order, as timm computes it: at high temperatures the angles are large.
        let frequency = |band| 1.0 / (config.temperature as f32).powf(band as f32 / bands as f32);
        let frequencies: Vec<f32> = (0..bands).map(frequency).collect();
        let axis = |n: usize, reference: Option<usize>| -> Vec<f32> {
            let place = |i| i as f32 + config.offset as f32;
            match reference {
                None => (0..n).map(place).collect(),
                Some(to) => (0..n).map(|i| place(i) / n as f32 * to as f32).collect(),
            }
        };
        let rows = axis(grid.0, config.reference.map(|(rows, _)| rows));
        let columns = axis(grid.1, config.reference.map(|(_, columns)| columns));
        let mut angles = Vec::with_capacity(rows.len() * columns.len() * 2 * bands);
        for row in &rows {
            for column in &columns {
                let places = match config.columns_first {
                    true => [column, row],
                    false => [row, column],
                };
                for place in places {
                    angles.extend(frequencies.iter().map(|frequency| place * frequency));
                }
            }
        }
        Self {
            sines: angles.iter().map(|angle| angle.sin()).collect(),
            cosines: angles.iter().map(|angle| angle.cos()).collect(),
            pairs: 2 * bands,
            prefix,
            whole: PerSize::default(),
        }
    }

    /// The rotation of all tokens of the grid, or of those that are kept.
    pub fn rotation(&self, kept: Option<&KeptPatches>, device: &Device) -> Rotation {
        match kept {
            Some(_) => self.turned(kept, device),
            None => {
                let whole = || self.turned(None, device);
                self.whole.get([0; 2], device, whole)
            }
        }
    }

    fn turned(&self, kept: Option<&KeptPatches>, device: &Device) -> Rotation {
        let place = |values: &[f32], fill: f64| {
            let shape = [values.len() / self.pairs, self.pairs];
            let data = TensorData::new(values.to_vec(), shape);
            let table = Tensor::<2>::from_data(data, (device, DType::F32));
            let rows = match kept {
                Some(kept) => kept.rows(table),
                None => table.unsqueeze(),
            };
            let [batch, _, pairs] = rows.dims();
            let prefix = Tensor::full([batch, self.prefix, pairs], fill, (device, DType::F32));
            let all = match self.prefix {
                0 => rows,
                _ => Tensor::cat(vec![prefix, rows], 1),
            };
            all.unsqueeze_dim(1)
        };
        Rotation {
            sines: place(&self.sines, 0.0),
            cosines: place(&self.cosines, 1.0),
        }
    }
}

/// What queries and keys are turned by: `[1 or batch, 1, tokens, head_width / 2]` each, in f32.
#[derive(Debug, Clone)]
pub struct Rotation {
    sines: Tensor<4>,
    cosines: Tensor<4>,
}

impl Rotation {
    /// Turns the pairs `(0, 1), (2, 3), …` of the features of queries or keys `[batch, heads, tokens, head_width]`, in f32.
    ///
    /// The first features of all pairs come before all second ones in the result. A query's product with a key does not depend
    /// on the order of features as long as both have the same.
    pub fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let [batch, heads, tokens, width] = x.dims();
        let pairs = x
            .cast(DType::F32)
            .reshape([batch, heads, tokens, width / 2, 2]);
        let [first, second] = [0, 1].map(|i| {
            let part = pairs.clone().slice_dim(4, i..i + 1);
            part.reshape([batch, heads, tokens, width / 2])
        });
        let (sines, cosines) = (self.sines.clone(), self.cosines.clone());
        let turned = [
            first.clone() * cosines.clone() - second.clone() * sines.clone(),
            second * cosines + first * sines,
        ];
        Tensor::cat(turned.to_vec(), 3).cast(dtype)
    }
}
