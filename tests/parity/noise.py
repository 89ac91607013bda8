"""What is random in a training pass, drawn as `crates/model/src/layers` draws it, so that upstream can be given the same."""

import numpy as np
import torch


def mix(seed, steps):
    """SplitMix64's values `steps` after `seed`, as `layers/drop_path.rs::branch_seed`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * (np.asarray(steps, dtype=np.uint64) + np.uint64(1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


class Noise:
    """`layers/dropout.rs::Noise`."""

    def __init__(self, seed):
        self.seed, self.drawn = seed, 0

    def kept(self, count, share):
        seed = mix(self.seed, self.drawn)
        self.drawn += 1
        bits = mix(seed, np.arange((count + 1) // 2))
        halves = np.stack([bits & np.uint64(0xFFFFFFFF), bits >> np.uint64(32)], axis=1).reshape(-1)[:count]
        return torch.from_numpy(halves >= np.uint64(int(share * 0xFFFFFFFF)))

    def dropout(self, x, p=0.5, training=True, inplace=False):
        if not training or p == 0:
            return x
        return x * self.kept(x.numel(), p).reshape(x.shape) / (1 - p)
