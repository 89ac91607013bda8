"""Runs ONNX files of every family in onnxruntime and compares them with what OpenCLIP computed for the same weights.

  pip install onnx onnxruntime safetensors numpy
  OPENCLIP_ONNX_DIR=DIR cargo test --release -p openclip-tests --features onnx --test parity -- --ignored onnx::write_for_python
  python tests/parity/check_onnx.py DIR
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

DATA = Path(__file__).resolve().parent / "data"
TOLERANCE = 1e-4


def normalised(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def main():
    worst = {}
    files = sorted(Path(sys.argv[1]).glob("*.onnx"))
    assert files, "no .onnx files"
    for path in files:
        family, case = path.stem.split("-", 1)
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        fixture = load_file(DATA / family / f"{case}.safetensors")
        image = fixture["input/image"].astype(np.float32)
        image = image / 32 if fixture["input/image"].dtype == np.int8 else image
        text = fixture["input/text"].astype(np.int64)
        wanted = [normalised(fixture[f"output/{kind}_features"]) for kind in ("image", "text")]
        apart = 0.0
        # Batches of other sizes than those that were recorded, and different ones on the two sides.
        for pictures, captions in [(len(image), len(text)), (1, len(text)), (len(image), 1)]:
            found = session.run(
                ["image_features", "text_features", "logits_per_image"],
                {"image": image[:pictures], "text": text[:captions]},
            )
            for features, expected, count in zip(found, wanted, (pictures, captions)):
                assert features.shape == expected[:count].shape, (path.name, features.shape)
                apart = max(apart, float(np.abs(features - expected[:count]).max()))
            assert found[2].shape == (pictures, captions)
        worst[family] = max(worst.get(family, 0.0), apart)
        status = "ok" if apart <= TOLERANCE else "DIFFERS"
        print(f"{path.stem:40} {len(onnx.load(str(path)).graph.node):5} nodes  {apart:.1e}  {status}")
        assert apart <= TOLERANCE, path.name
    print({family: f"{apart:.1e}" for family, apart in worst.items()})


if __name__ == "__main__":
    main()
