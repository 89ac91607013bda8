//! Stochastic depth: a residual branch is left out for some samples of a training batch (Huang et al. 2016,
//! <https://arxiv.org/abs/1603.09382>; timm's `DropPath`).

use burn::tensor::{Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Leaves `branch` out for a random share of the samples, and divides it by the share that stays for the others, so that
/// its expectation is what evaluation sees.
///
/// `branch` is `[batch, …]`; the draw depends on `seed` alone, so that a second pass with the same seed drops the same
/// samples. Different branches need different seeds: see [`branch_seed`].
pub fn drop_path<const D: usize>(branch: Tensor<D>, share: f64, seed: u64) -> Tensor<D> {
    if share <= 0.0 {
        return branch;
    }
    let keep = 1.0 - share;
    let batch = branch.dims()[0];
    let mut rng = StdRng::seed_from_u64(seed);
    let factors: Vec<f32> = (0..batch)
        .map(|_| match rng.random::<f64>() < keep {
            true => (1.0 / keep) as f32,
            false => 0.0,
        })
        .collect();
    let mut shape = [1; D];
    shape[0] = batch;
    let factors = TensorData::new(factors, shape);
    let factors = Tensor::<D>::from_data(factors, &branch.device()).cast(branch.dtype());
    branch * factors
}

/// Stochastic depth of one of a tower's residual branches.
#[derive(Debug, Clone, Copy, Default)]
pub struct DropPath {
    share: f64,
    branch: usize,
}

impl DropPath {
    /// For branch number `branch` of the tower, which training leaves out for a `share` of the samples.
    pub fn new(share: f64, branch: usize) -> Self {
        Self { share, branch }
    }

    /// Whether all of the branch stays.
    pub fn keeps_all(&self, training: Option<u64>) -> bool {
        training.is_none() || self.share <= 0.0
    }

    /// What stays of `branch`, `[batch, …]`: all of it, unless `training` seeds the draw.
    pub fn forward<const D: usize>(&self, branch: Tensor<D>, training: Option<u64>) -> Tensor<D> {
        match training {
            Some(seed) => drop_path(branch, self.share, branch_seed(seed, self.branch)),
            None => branch,
        }
    }
}

/// Shares of `depth` branches: from 0 at the first to `last` at the last in equal steps, as in timm.
pub fn drop_path_shares(last: f64, depth: usize) -> Vec<f64> {
    let steps = depth.saturating_sub(1).max(1) as f64;
    (0..depth).map(|i| last * i as f64 / steps).collect()
}

/// The seed of one of a tower's branches (SplitMix64 over the pass's seed and the branch's number).
pub fn branch_seed(seed: u64, branch: usize) -> u64 {
    let step = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(branch as u64 + 1);
    let mut mixed = seed.wrapping_add(step);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
