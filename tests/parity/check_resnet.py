#!/usr/bin/env python3
"""Loads what the test `write_for_python` of `family_resnet` wrote into Python OpenCLIP, strictly, and compares every value.

  OPENCLIP_SAVED_DIR=DIR cargo test --release -p openclip-tests --test family_resnet -- --ignored write_for_python
  check_resnet.py DIR

Needs `pip install open_clip_torch==3.3.0`.
"""

import sys
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file

model = open_clip.create_model(f"local-dir:{sys.argv[1]}").eval()
case = load_file(Path(__file__).resolve().parent / "data/resnet/odd_image.safetensors")
# BatchNorm's counters are not saved and start at zero.
state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
assert all(torch.equal(v, case[f"weights/{k}"]) for k, v in state.items()), "other weights"
with torch.no_grad():
    apart = float((model.encode_image(case["input/image"]) - case["eval/image_features"]).abs().max())
print(f"{len(state)} tensors equal, image features apart {apart:.1e}")
sys.exit(0 if apart <= 1e-4 else 1)
