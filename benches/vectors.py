#!/usr/bin/env python3
"""Clustered vectors of length 1 like a CLIP's, for benches/search.py and benches/index: DIR/img_emb/img_emb_0.npy and
DIR/queries.npy.

  vectors.py DIR [--count 100000] [--queries 1000] [--width 512] [--dtype float16]

A point lies near one of --clusters centres in a space of --latent axes, which a random matrix takes to --width axes; queries
are drawn in the same way. The same arguments give the same bytes.
"""

import argparse
from pathlib import Path

import numpy as np


def points(count, centres, matrix, rng, spread=0.6, noise=0.02):
    """Rows of length 1, float32, a slice at a time so that memory stays small."""
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        latent = centres[rng.integers(len(centres), size=size)]
        latent = latent + spread * rng.standard_normal(latent.shape, dtype=np.float32)
        rows = latent @ matrix
        rows += noise * np.linalg.norm(rows, axis=1, keepdims=True) * rng.standard_normal(rows.shape, dtype=np.float32) / rows.shape[1] ** 0.5
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--dtype", default="float16", choices=["float16", "float32"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    centres = rng.standard_normal((args.clusters, args.latent), dtype=np.float32)
    matrix = rng.standard_normal((args.latent, args.width), dtype=np.float32)
    args.dir.mkdir(parents=True, exist_ok=True)
    (args.dir / "img_emb").mkdir(exist_ok=True)
    for name, count in [("img_emb/img_emb_0.npy", args.count), ("queries.npy", args.queries)]:
        file = np.lib.format.open_memmap(args.dir / name, "w+", args.dtype, (count, args.width))
        at = 0
        for rows in points(count, centres, matrix, rng):
            file[at : at + len(rows)] = rows
            at += len(rows)
        file.flush()


if __name__ == "__main__":
    main()
