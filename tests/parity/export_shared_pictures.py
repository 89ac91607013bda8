#!/usr/bin/env python3
"""Retrieval where pictures have several captions, by both rules.

Output: data/training/shared_pictures.json, which holds features of 20 pictures and of 1 to 5 captions of each, in mixed order, with
  open_clip       `get_clip_metrics` of `open_clip_train`, on one row per caption
  clip_benchmark  `recall_at_k` of CLIP_benchmark, on each picture once, put together as its `evaluate` does

Needs `pip install open_clip_torch==3.3.0 clip-benchmark==1.6.2 pandas webdataset`.
"""

import json
import random
from importlib.metadata import version
from pathlib import Path

import open_clip
import torch
from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k
from open_clip_train.train import get_clip_metrics

WIDTH, PICTURES = 6, 20


def unit(rows: torch.Tensor) -> torch.Tensor:
    # Few digits, so that the file is small and both sides read the same numbers.
    return (torch.nn.functional.normalize(rows, dim=-1) * 1e4).round() / 1e4


def main() -> None:
    torch.manual_seed(3)
    pairs = [picture for picture in range(PICTURES) for _ in range(1 + picture % 5)]
    random.Random(3).shuffle(pairs)
    # Pictures are numbered by their first pair.
    order = {picture: at for at, picture in enumerate(dict.fromkeys(pairs))}
    of_pair = torch.tensor([order[picture] for picture in pairs])
    images = unit(torch.randn(PICTURES, WIDTH))
    texts = unit(images[of_pair] + 0.8 * torch.randn(len(pairs), WIDTH))

    scores = texts @ images.T
    right = torch.zeros_like(scores, dtype=bool)
    right[torch.arange(len(pairs)), of_pair] = True
    benchmark = {}
    for k in (1, 5, 10):
        for name, s, r in (("image_retrieval", scores, right), ("text_retrieval", scores.T, right.T)):
            found = batchify(recall_at_k, s, r, 4, "cpu", k=k) > 0
            benchmark[f"{name}_recall@{k}"] = found.double().mean().item()
    rows = get_clip_metrics(images[of_pair], texts, torch.tensor(1.0))
    content = {
        "images": images.tolist(),
        "texts": texts.tolist(),
        "of_pair": of_pair.tolist(),
        # A picture's rows have equal features, whose order upstream leaves to the sort: only this direction is defined.
        "open_clip": {key: float(value) for key, value in rows.items() if key.startswith("image_to_text")},
        "clip_benchmark": benchmark,
        "versions": {"torch": torch.__version__.split("+")[0], "open_clip": open_clip.__version__, "clip_benchmark": version("clip-benchmark")},
    }
    rounded = json.loads(json.dumps(content), parse_float=lambda text: round(float(text), 9))
    for key in ("images", "texts"):
        rounded[key] = [[round(value, 4) for value in row] for row in rounded[key]]
    path = Path(__file__).resolve().parent / "data/training/shared_pictures.json"
    path.write_text(json.dumps(rounded) + "\n")


main()
