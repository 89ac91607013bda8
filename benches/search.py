#!/usr/bin/env python3
"""Search over many vectors: openclip's exact scan and index beside reading the file, NumPy and faiss, in one run on the same files.

  search.py --bench target/release/examples/bench_search [--count 100000] [--dir DIR]

Needs numpy; faiss (`pip install faiss-cpu`) where it is to be compared with. The vectors come from vectors.py.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TOP = 10


def least(work, rounds=3):
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def line(name, recall, one, together, building=None, size=None):
    row = {"name": name, "recall_at_10": recall, "one_by_one_per_s": one, "together_per_s": together, "building_s": building, "megabytes": size}
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}), flush=True)


def faiss_lines(vectors, queries, truth):
    import faiss

    width = vectors.shape[1]
    few = queries[:64]

    def measure(name, index, building, size):
        one, _ = least(lambda: [index.search(few[k : k + 1], TOP) for k in range(len(few))])
        together, (_, found) = least(lambda: index.search(queries, TOP))
        recall = np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, truth)])
        line(name, float(recall), len(few) / one, len(queries) / together, building, size)

    flat = faiss.IndexFlatIP(width)
    building, _ = least(lambda: flat.add(vectors), 1)
    measure("faiss IndexFlatIP", flat, building, vectors.nbytes / 1e6)
    half = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    building, _ = least(lambda: half.add(vectors), 1)
    measure("faiss fp16", half, building, vectors.nbytes / 2e6)
    graph = faiss.IndexHNSWFlat(width, 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 100
    building, _ = least(lambda: graph.add(vectors), 1)
    for effort in (16, 32, 64):
        graph.hnsw.efSearch = effort
        measure(f"faiss HNSW16, efSearch {effort}", graph, building, (vectors.nbytes + len(vectors) * 32 * 4) / 1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--bits", default="4")
    parser.add_argument("--candidates", default="50")
    parser.add_argument("--no-faiss", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.dir or Path(temporary)
        if not (folder / "queries.npy").exists():
            subprocess.run([sys.executable, HERE / "vectors.py", folder, "--count", str(args.count)], check=True)
        print(subprocess.run([args.bench, folder, args.bits, args.candidates], check=True, capture_output=True, text=True).stdout.strip(), flush=True)
        if args.no_faiss:
            return
        half = np.load(folder / "img_emb" / "img_emb_0.npy", mmap_mode="r")
        vectors, queries = half.astype(np.float32), np.load(folder / "queries.npy").astype(np.float32)
        few = queries[:64]
        one, _ = least(lambda: [np.argpartition(vectors @ q, -TOP)[-TOP:] for q in few])
        line("numpy, float32", 1.0, len(few) / one, None)
        truth = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :TOP]
        try:
            faiss_lines(vectors, queries, truth)
        except ImportError:
            print("faiss is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
