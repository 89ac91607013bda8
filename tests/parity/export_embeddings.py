#!/usr/bin/env python3
"""A folder of embeddings as clip-retrieval writes it, by NumPy and pandas, with what NumPy finds in it.

  export_embeddings.py            writes tests/parity/data/embeddings

img_emb has float16 and text_emb float32 rows in two partitions; metadata have columns of several kinds. found.json holds, for each
row of queries.npy, the rows by falling dot product and the products, and which rows fulfil a condition.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent / "data" / "embeddings"
SIZES = [5, 4]
WIDTH = 24


def main():
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((sum(SIZES), WIDTH), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rng.standard_normal((3, WIDTH), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    at = 0
    for number, size in enumerate(SIZES):
        part = rows[at : at + size]
        for folder, kind in [("img_emb", np.float16), ("text_emb", np.float32)]:
            (HERE / folder).mkdir(parents=True, exist_ok=True)
            np.save(HERE / folder / f"{folder}_{number}.npy", part.astype(kind))
        numbers = np.arange(at, at + size)
        table = pd.DataFrame({
            "image_path": [f"pictures/{n}.jpg" for n in numbers],
            "caption": [f"caption {n}" for n in numbers],
            "width": 100 * numbers,
            "score": [None if n % 3 == 0 else n / 8 for n in numbers],
            "ok": numbers % 2 == 0,
            "tags": [[f"t{n}", "all"] for n in numbers],
        })
        (HERE / "metadata").mkdir(exist_ok=True)
        table.to_parquet(HERE / "metadata" / f"metadata_{number}.parquet", index=False)
        at += size
    np.save(HERE / "queries.npy", queries)
    found = []
    for kind in [np.float16, np.float32]:
        products = queries.astype(np.float64) @ rows.astype(kind).astype(np.float64).T
        order = np.argsort(-products, axis=1, kind="stable")
        found.append({"rows": order.tolist(), "scores": np.take_along_axis(products, order, 1).tolist()})
    text = json.dumps({"image": found[0], "text": found[1], "wide": [n for n in range(sum(SIZES)) if 100 * n >= 400]})
    (HERE / "found.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
