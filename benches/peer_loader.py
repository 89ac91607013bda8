#!/usr/bin/env python3
"""The other side of the loader benchmarks: OpenCLIP's PIL pipeline. Prints one line of JSON.

  peer_loader.py --images FOLDER_OF_JPEGS

Open, decode, transform and normalise every file, --repeat times, in this process on one thread
("images_per_core_s" counts its processor time), or with --workers N through a DataLoader as open_clip_train builds it.
Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import json
import time
from pathlib import Path

import open_clip
import torch
from PIL import Image

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}


class Folder(torch.utils.data.Dataset):
    """Every picture of a folder, transformed."""

    def __init__(self, files: list[Path], transform):
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[i]))


def image_rate(files: list[Path], args) -> tuple[float, float | None]:
    """Images per second by the clock and, without workers, by the processor time of this process."""
    transform = open_clip.image_transform(args.size, is_train=args.train)
    data = Folder(files * args.repeat, transform)
    if args.workers:
        loader = torch.utils.data.DataLoader(data, batch_size=args.batch, num_workers=args.workers)
        batches = iter(loader)
        next(batches)
        start = time.perf_counter()
        count = sum(len(batch) for batch in batches)
    else:
        for i in range(min(8, len(data))):
            data[i]
        start, processor = time.perf_counter(), time.process_time()
        count = sum(
            len(torch.stack([data[j] for j in range(i, min(i + args.batch, len(data)))]))
            for i in range(0, len(data), args.batch)
        )
    seconds = time.perf_counter() - start
    return count / seconds, None if args.workers else count / (time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--train", action="store_true", help="the training transform instead of the evaluation one")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "open_clip": open_clip.__version__,
        "workers": args.workers,
        "transform": "train" if args.train else "eval",
    }
    files = sorted(p for p in args.images.rglob("*") if p.suffix.lower() in PICTURES)
    if not files:
        parser.error(f"{args.images}: no pictures")
    rate, per_core = image_rate(files, args)
    result |= {"images": len(files) * args.repeat, "images_per_s": rate, "images_per_core_s": per_core}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
