//! The different pictures of a set of pairs, each encoded once.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use openclip_data::loader::Batch;

use crate::error::EvalError;
use crate::host::host;

/// Features of pictures, and which pair has which.
pub(crate) struct Gallery {
    named_by_picture: bool,
    seen: HashMap<PathBuf, usize>,
    /// The picture of every pair.
    pub of_pair: Vec<usize>,
    pictures: usize,
    /// `[pictures, embed_dim]`, row-major.
    rows: Vec<f32>,
}

/// The rows of a batch whose picture was not there before.
pub(crate) struct New {
    rows: Vec<usize>,
    size: usize,
}

impl New {
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The new rows out of `values`, which has as many for each row of the batch.
    fn pick<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if self.rows.len() == self.size {
            return values;
        }
        let width = values.len() / self.size.max(1);
        let rows = self
            .rows
            .iter()
            .flat_map(|row| &values[row * width..(row + 1) * width]);
        rows.copied().collect()
    }

    /// Their pixels out of the batch's.
    pub fn planes(&self, planes: Vec<u8>) -> Vec<u8> {
        self.pick(planes)
    }
}

impl Gallery {
    /// An empty one. Pairs of one name have one picture if `named_by_picture`; otherwise every pair has its own.
    pub fn new(named_by_picture: bool) -> Self {
        Self {
            named_by_picture,
            seen: HashMap::new(),
            of_pair: Vec::new(),
            pictures: 0,
            rows: Vec::new(),
        }
    }

    /// Takes note of a batch's pairs. The features of the new pictures are to follow, by [`Self::hang`] or [`Self::hang_some`].
    pub fn place(&mut self, batch: &Batch) -> New {
        let mut rows = Vec::new();
        for row in 0..batch.size {
            let name = batch.names.get(row).filter(|_| self.named_by_picture);
            let picture = match name {
                Some(name) => *self.seen.entry(plain(name)).or_insert(self.pictures),
                None => self.pictures,
            };
            if picture == self.pictures {
                self.pictures += 1;
                rows.push(row);
            }
            self.of_pair.push(picture);
        }
        New {
            rows,
            size: batch.size,
        }
    }

    /// Features of the new pictures.
    pub fn hang(&mut self, features: Tensor<2>) -> Result<(), EvalError> {
        self.rows.extend(host(features)?);
        Ok(())
    }

    /// Features of all of a batch's pictures, of which the new ones are kept.
    pub fn hang_some(&mut self, features: Tensor<2>, new: &New) -> Result<(), EvalError> {
        self.rows.extend(new.pick(host(features)?));
        Ok(())
    }

    /// Features of the pictures of the last `pairs` pairs, `[pairs, embed_dim]`.
    pub fn last(&self, pairs: usize, device: &Device) -> Tensor<2> {
        let width = self.width();
        let of_pair = &self.of_pair[self.of_pair.len() - pairs..];
        let rows = of_pair
            .iter()
            .flat_map(|picture| &self.rows[picture * width..(picture + 1) * width]);
        matrix(rows.copied().collect(), [pairs, width], device)
    }

    /// Features of all pictures, `[pictures, embed_dim]`, and the picture of every pair.
    pub fn into_features(self, device: &Device) -> (Tensor<2>, Vec<usize>) {
        let shape = [self.pictures, self.width()];
        (matrix(self.rows, shape, device), self.of_pair)
    }

    fn width(&self) -> usize {
        self.rows.len() / self.pictures.max(1)
    }
}

fn matrix(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// `a.jpg` for `./a.jpg`.
pub(crate) fn plain(name: &str) -> PathBuf {
    let parts = Path::new(name).components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn batch(names: &[&str]) -> Batch {
        Batch {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            size: names.len(),
            ..Batch::default()
        }
    }

    #[test]
    fn a_picture_is_new_once() {
        let device = Device::default();
        let mut gallery = Gallery::new(true);
        let new = gallery.place(&batch(&["a", "b", "./a"]));
        assert_eq!(new.planes(vec![1, 1, 2, 2, 3, 3]), [1, 1, 2, 2]);
        gallery
            .hang(matrix(vec![1.0, 2.0], [2, 1], &device))
            .unwrap();
        let new = gallery.place(&batch(&["b", "c"]));
        assert_eq!(new.count(), 1);
        gallery
            .hang_some(matrix(vec![9.0, 3.0], [2, 1], &device), &new)
            .unwrap();
        assert_eq!(host(gallery.last(2, &device)).unwrap(), [2.0, 3.0]);
        let (features, of_pair) = gallery.into_features(&device);
        assert_eq!(host(features).unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(of_pair, [0, 1, 0, 1, 2]);
    }

    #[test]
    fn keys_of_shards_are_no_pictures() {
        let mut gallery = Gallery::new(false);
        assert_eq!(gallery.place(&batch(&["000", "000"])).count(), 2);
        assert_eq!(gallery.of_pair, [0, 1]);
    }
}
