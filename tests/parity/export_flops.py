#!/usr/bin/env python3
"""Floating-point operations of every OpenCLIP configuration, counted as `open_clip_train/profiler.py` counts them.

Output
  tests/parity/data/flops.json    {name: [total, image, text]} operations for one picture and one caption of full length, a
                                  multiplication and an addition counting as two; upstream models on the meta device, so nothing is computed

With `--table docs/model_profile.csv` (from OpenCLIP's repository) it prints where that table says otherwise.

Needs `pip install open_clip_torch==3.3.0 transformers`.
"""

import argparse
import csv
import json
import os
import sys
import traceback
from pathlib import Path
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import export_hftext
import open_clip
import torch
from open_clip import hf_model
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[2]


def counted(module, *inputs) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        module(*inputs)
    return int(counter.get_total_flops())


def build(name: str):
    config = open_clip.get_model_config(name)
    config.pop("custom_text", None)
    config["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    named = lambda name, **_: export_hftext.encoder_config({"hf_model_name": name})
    with mock.patch.object(hf_model.AutoConfig, "from_pretrained", named), torch.device("meta"):
        model = kind(**config).eval()
    if "hf_model_name" in config["text_cfg"]:
        # A mask is made by looking at values, which are not there, and costs nothing.
        sys.modules[type(model.text.transformer).__module__].create_bidirectional_mask = lambda **_: None
        model.text.transformer.set_attn_implementation("eager")
        model.context_length = config["text_cfg"].get("context_length", 77)
    return model


def count(name: str) -> list[int]:
    model = build(name)
    size = model.visual.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    length = getattr(model, "context_length", None) or 77
    image = torch.ones((1, 3, *size), device="meta")
    text = torch.ones((1, length), dtype=torch.int64, device="meta")
    return [counted(model, image, text), counted(model.visual, image), counted(model.text, text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT, help="repository root")
    parser.add_argument("--table", type=Path, help="OpenCLIP's docs/model_profile.csv")
    parser.add_argument("--only", help="print the counts of one model by module and stop")
    args = parser.parse_args()

    found = {}
    for name in [args.only] if args.only else open_clip.list_models():
        try:
            found[name] = count(name)
        except Exception as error:  # A tower whose code needs data.
            print(f"{name}: {type(error).__name__}: {error}")
            if args.only:
                traceback.print_exc()
    if args.only:
        print(found)
        return
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(counts)}" for name, counts in found.items())
    (args.output / "tests/parity/data/flops.json").write_text("{\n" + lines + "\n}\n")
    print(f"{len(found)} models")
    if args.table:
        for row in csv.DictReader(args.table.open()):
            own = found.get(row["model"])
            published = [float(row[column]) for column in ("gflops", "image_gflops", "text_gflops")]
            if own and any(abs(a / 1e9 - b) > 0.0051 for a, b in zip(own, published)):
                print(row["model"], "published", published, "counted", [round(value / 1e9, 2) for value in own])


if __name__ == "__main__":
    main()
