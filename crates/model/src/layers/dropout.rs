//! Dropout whose masks follow from a seed, so that a second pass over the same batch drops the same values.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::drop_path::branch_seed;

/// What is random in one pass through a tower: every call takes the next mask of the seed's sequence.
#[derive(Debug, Clone)]
pub struct Noise(Option<Stream>);

#[derive(Debug, Clone)]
struct Stream {
    seed: u64,
    drawn: usize,
}

impl Noise {
    /// Of a training pass with this seed; without one nothing is dropped.
    pub fn new(training: Option<u64>) -> Self {
        Self(training.map(|seed| Stream { seed, drawn: 0 }))
    }

    /// Whether dropout with this share changes anything.
    pub fn drops(&self, share: f64) -> bool {
        self.0.is_some() && share > 0.0
    }

    /// How many masks have been drawn.
    pub fn drawn(&self) -> usize {
        self.0.as_ref().map_or(0, |stream| stream.drawn)
    }

    /// Goes on behind that many masks.
    pub fn advance(&mut self, drawn: usize) {
        if let Some(stream) = &mut self.0 {
            stream.drawn = drawn;
        }
    }

    fn next(&mut self, share: f64) -> Option<u64> {
        let stream = self.0.as_mut().filter(|_| share > 0.0)?;
        stream.drawn += 1;
        Some(branch_seed(stream.seed, stream.drawn - 1))
    }

    /// True with probability `share`; never in evaluation.
    pub fn chance(&mut self, share: f64) -> bool {
        let seed = self.next(share);
        seed.is_some_and(|seed| !keep(seed, 0, threshold(share))[0])
    }

    /// Puts zeros in the place of a random share of the values and divides the others by the share that stays.
    pub fn dropout<const D: usize>(&mut self, x: Tensor<D>, share: f64) -> Tensor<D> {
        let Some(seed) = self.next(share) else {
            return x;
        };
        let shape = x.dims();
        let mut dropped = vec![false; shape.iter().product()];
        let threshold = threshold(share);
        dropped
            .par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(chunk, values)| {
                for (pair, values) in values.chunks_mut(2).enumerate() {
                    let kept = keep(seed, chunk * CHUNK / 2 + pair, threshold);
                    values.iter_mut().zip(kept).for_each(|(v, kept)| *v = !kept);
                }
            });
        let dropped = Tensor::from_data(TensorData::new(dropped, shape), &x.device());
        x.mask_fill(dropped, 0.0).mul_scalar(1.0 / (1.0 - share))
    }
}

/// Values that one thread draws at a time; even.
const CHUNK: usize = 1 << 14;

fn threshold(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32
}

/// Whether the values `2·pair` and `2·pair + 1` stay: the low and the high half of a hash of seed and pair.
fn keep(seed: u64, pair: usize, threshold: u32) -> [bool; 2] {
    let bits = branch_seed(seed, pair);
    [bits as u32 >= threshold, (bits >> 32) as u32 >= threshold]
}
