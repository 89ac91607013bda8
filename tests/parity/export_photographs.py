"""Writes photographs.safetensors: photographs as JPEGs of the kinds that `--fast-decode` decodes in part, as `file/<name>`.

    python tests/parity/export_photographs.py      # needs Pillow, scikit-image

The pictures are free: NASA's (astronaut, hubble), and CC0 (chelsea, coffee, rocket).
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from skimage import data

OUT = Path(__file__).parent / "data" / "photographs.safetensors"


def main():
    hubble, coffee, rocket = data.hubble_deep_field(), data.coffee(), data.rocket()
    files = {}
    for name, pixels, options in [
        ("420_large", hubble[:768, :1000], {"quality": 80, "subsampling": 2}),
        ("420", coffee, {"quality": 90, "subsampling": 2}),
        ("422_restart", rocket, {"quality": 85, "subsampling": 1, "restart_marker_blocks": 7}),
        ("444", data.astronaut()[:400, 60:], {"quality": 80, "subsampling": 0, "optimize": True}),
        ("grey", data.chelsea().mean(-1).round().astype(np.uint8), {"quality": 85}),
    ]:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", **options)
        files[f"file/{name}"] = np.frombuffer(buffer.getvalue(), np.uint8)
        print(name, pixels.shape, len(buffer.getvalue()))
    save_file(files, OUT)


if __name__ == "__main__":
    main()
