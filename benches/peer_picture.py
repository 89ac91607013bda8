#!/usr/bin/env python3
"""The other side of `compare.py picture`: milliseconds of processor time per picture, on one thread, files in memory. Prints one line of JSON.

  peer_picture.py FOLDER_OF_JPEGS

`decode_ms` is PyTurboJPEG's decoding to RGB, `exact_ms` and `fast_ms` both OpenCLIP's training transform with PIL's decoding, which has
no faster way, and `turbojpeg_ms` the first again, beside which the whole exact path of openclip is to be held. Needs
`pip install open_clip_torch==3.3.0 PyTurboJPEG` (version 1 for libjpeg-turbo 2) and libturbojpeg.
"""

import io
import json
import statistics
import sys
import time
from pathlib import Path

import open_clip
import torch
from PIL import Image
from turbojpeg import TJPF_RGB, TurboJPEG


def milliseconds(files: list[bytes], work, rounds: int = 5) -> float:
    """The median of the rounds, per picture."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for file in files:
            work(file)
        times.append((time.process_time() - start) / len(files) * 1e3)
    return statistics.median(times)


def main() -> None:
    torch.set_num_threads(1)
    files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
    turbojpeg = TurboJPEG()
    transform = open_clip.image_transform(224, is_train=True)
    decode = milliseconds(files, lambda file: turbojpeg.decode(file, pixel_format=TJPF_RGB))
    pil = milliseconds(files, lambda file: transform(Image.open(io.BytesIO(file))))
    print(json.dumps({"decode_ms": decode, "exact_ms": pil, "fast_ms": pil, "turbojpeg_ms": decode}))


if __name__ == "__main__":
    main()
