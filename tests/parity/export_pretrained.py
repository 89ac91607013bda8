#!/usr/bin/env python3
"""Copies OpenCLIP's table of published weights.

Outputs
  configs/pretrained.json                 one line per model and tag, in OpenCLIP's order; what equals the defaults (OpenAI's mean and
                                          std, bicubic, shortest, GELU, no URL) is left out
  tests/parity/data/pretrained.json       the same table with every value, one list per entry, for the test that compares them

Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import json
import os
from pathlib import Path

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.pretrained import _PRETRAINED, list_pretrained

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {
    "url": "",
    "mean": list(OPENAI_DATASET_MEAN),
    "std": list(OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "quick_gelu": False,
}


def entries():
    for model, tag in list_pretrained():
        config = _PRETRAINED[model][tag]
        values = {key: config.get(key, default) for key, default in DEFAULTS.items()}
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        yield model, tag, config["hf_hub"], values


def lines(rows) -> str:
    return "[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT, help="repository root")
    args = parser.parse_args()

    table, expanded = [], []
    for model, tag, hub, values in entries():
        changed = {key: value for key, value in values.items() if value != DEFAULTS[key]}
        table.append({"model": model, "tag": tag, "hf_hub": hub, **changed})
        # As OpenCLIP's download takes the entry apart.
        repository, file = os.path.split(hub)
        expanded.append([model, tag, repository, file, *values.values()])
    (args.output / "configs/pretrained.json").write_text(lines(table))
    (args.output / "tests/parity/data/pretrained.json").write_text(lines(expanded))
    print(f"{len(table)} tags of {len({row['model'] for row in table})} models")


if __name__ == "__main__":
    main()
