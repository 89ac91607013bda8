#!/usr/bin/env python3
"""Loads every model that the test `write_for_python` wrote into Python OpenCLIP, strictly, and compares features.

  OPENCLIP_SAVED_DIR=DIR cargo test --release -p openclip-tests --test parity -- --ignored write_for_python
  check_saved.py DIR

DIR/FAMILY/CASE holds `open_clip_config.json`, `open_clip_model.safetensors` (loaded as `local-dir:`) and `features.safetensors`. Inputs
are those of data/FAMILY/CASE.safetensors. Prints one line of JSON; exit status 1 when a difference exceeds --tolerance.
Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import json
import sys
from pathlib import Path

import open_clip
import torch
import upstream
from safetensors.torch import load_file

DATA = Path(__file__).resolve().parent / "data"


def state(tensors: dict) -> dict:
    """Without BatchNorm's counters, which are not saved and start at zero."""
    return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    worst, models = 0.0, 0
    for saved in sorted(args.folder.glob("*/*/features.safetensors")):
        case = saved.parent.relative_to(args.folder)
        model = open_clip.create_model(f"local-dir:{saved.parent}").eval()
        path = DATA / f"{case}.safetensors"
        loaded, stored = state(model.state_dict()), state(upstream.stored_weights(path))
        assert set(loaded) == set(stored), case
        assert all(torch.equal(loaded[k], stored[k]) for k in stored), f"{case}: other weights"
        inputs, ours = upstream.load(path), load_file(saved)
        image = model.encode_image(inputs["input/image"], normalize=True)
        text = model.encode_text(inputs["input/text"], normalize=True)
        apart = max(float((image - ours["image_features"]).abs().max()), float((text - ours["text_features"]).abs().max()))
        worst, models = max(worst, apart), models + 1
    print(json.dumps({"models": models, "max_abs": worst, "open_clip": open_clip.__version__}))
    sys.exit(0 if models and worst <= args.tolerance else 1)


if __name__ == "__main__":
    main()
