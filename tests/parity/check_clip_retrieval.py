#!/usr/bin/env python3
"""Has autofaiss and clip-retrieval read a folder of `openclip embed`, and looks for its own rows in their indices.

  openclip embed … --images 'DIR/{0..2}.tar' --output EMB
  pip install "numpy==1.26.*" "pyarrow==15.*" autofaiss && pip install --no-deps clip-retrieval
  check_clip_retrieval.py EMB INDEX      # INDEX is written

Of clip-retrieval only what `clip-retrieval index` calls is loaded: its other commands want a CLIP of their own.
"""

import importlib.util
import sys
from pathlib import Path

import faiss
import numpy as np
import pandas as pd

LOOKED_FOR = 100


def clip_index():
    folder = importlib.util.find_spec("clip_retrieval").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("clip_index", Path(folder) / "clip_index.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.clip_index


def main():
    folder, index = Path(sys.argv[1]), Path(sys.argv[2])
    clip_index()(str(folder), str(index), max_index_memory_usage="1G", current_memory_available="4G", nb_cores=2)
    partitions = sorted((index / "metadata").glob("*.parquet"))
    metadata = pd.concat([pd.read_parquet(path) for path in partitions])
    for kind, arrays in (("image", "img_emb"), ("text", "text_emb")):
        rows = np.concatenate([np.load(path) for path in sorted((folder / arrays).glob("*.npy"))]).astype(np.float32)
        assert len(rows) == len(metadata), (kind, len(rows), len(metadata))
        found = faiss.read_index(str(index / f"{kind}.index"))
        assert found.ntotal == len(rows)
        few = rows[:LOOKED_FOR]
        _, first = found.search(few, 1)
        assert (rows[first[:, 0]] == few).all(), kind
    print(f"{len(metadata)} rows, columns {', '.join(metadata.columns)}: indexed, and {LOOKED_FOR} of each kind found again")


if __name__ == "__main__":
    main()
