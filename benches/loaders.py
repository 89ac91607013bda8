#!/usr/bin/env python3
"""Whole loaders on the same tar shards, in turns: openclip, webdataset with OpenCLIP's transform, datago; and TurboJPEG's decoding alone.

  loaders.py --images FOLDER_OF_JPEGS [--copies 20] [--rounds 3] [--size 224] [--target target]

Rates are pictures per second by the clock, with one and with two workers. datago reads the shards from a server on this machine, since it
reads none from the disk, and takes as many threads as there are cores; it resizes with its own crop_and_resize.

Build first: `cargo build --release --workspace --examples`. Needs `pip install open_clip_torch==3.3.0 webdataset datago PyTurboJPEG` (PyTurboJPEG below 2 with libjpeg-turbo 2).
"""

import argparse
import functools
import http.server
import io
import json
import os
import statistics
import subprocess
import tarfile
import tempfile
import threading
import time
from pathlib import Path

SHARDS = 4


def write_shards(folder: Path, images: list[bytes], copies: int) -> int:
    share = len(images) * copies // SHARDS
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:06}.tar", "w") as tar:
            for at in range(share):
                key = f"{shard:02}{at:07}"
                for suffix, content in ((".jpg", images[at % len(images)]), (".txt", b"a photograph")):
                    info = tarfile.TarInfo(key + suffix)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return share * SHARDS


def openclip(args, spec: str, workers: int) -> float:
    command = [f"{args.target}/release/examples/bench_sources", spec, "--rounds", "1", "--workers", str(workers)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[0])["loader_per_s"]


def webdataset(args, spec: str, workers: int) -> float:
    import open_clip
    import torch
    import webdataset as wds

    torch.set_num_threads(1)
    transform = open_clip.image_transform(args.size, is_train=True)
    data = (
        wds.WebDataset(spec, shardshuffle=False)
        .shuffle(5000, initial=1000)
        .decode("pilrgb")
        .rename(image="jpg", text="txt")
        .map_dict(image=transform)
        .to_tuple("image", "text")
        .batched(64)
    )
    processes = 0 if workers == 1 else workers
    loader = wds.WebLoader(data, batch_size=None, num_workers=processes)
    start, count = time.perf_counter(), 0
    for images, _ in loader:
        count += len(images)
    return count / (time.perf_counter() - start)


def datago(args, url: str, count: int) -> float:
    from datago import DatagoClient

    config = {
        "source_type": "webdataset",
        "source_config": {"url": url, "random_sampling": False, "concurrent_downloads": 4, "rank": 0, "world_size": 1},
        "image_config": {
            "crop_and_resize": True,
            "default_image_size": args.size,
            "downsampling_ratio": 1,
            "min_aspect_ratio": 1.0,
            "max_aspect_ratio": 1.0,
            "pre_encode_images": False,
        },
        "prefetch_buffer_size": 128,
        "samples_buffer_size": 64,
        "limit": count,
    }
    client = DatagoClient(json.dumps(config))
    start, seen = time.perf_counter(), 0
    while seen < count and client.get_sample() is not None:
        seen += 1
    rate = seen / (time.perf_counter() - start)
    client.stop()
    return rate


def turbojpeg(images: list[bytes], copies: int) -> float:
    from turbojpeg import TJPF_RGB, TurboJPEG

    decoder = TurboJPEG()
    start = time.process_time()
    for _ in range(copies):
        for image in images:
            decoder.decode(image, pixel_format=TJPF_RGB)
    return len(images) * copies / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--target", default=os.environ.get("CARGO_TARGET_DIR", "target"))
    args = parser.parse_args()
    images = [path.read_bytes() for path in sorted(args.images.glob("*.jpg"))]
    with tempfile.TemporaryDirectory() as folder:
        count = write_shards(Path(folder), images, args.copies)
        braces = f"{{000000..{SHARDS - 1:06}}}.tar"
        serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        serve.log_message = lambda *_: None
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{braces}"
        spec = f"{folder}/{braces}"
        runs = {
            "openclip, 1 worker": lambda: openclip(args, spec, 1),
            "openclip, 2 workers": lambda: openclip(args, spec, 2),
            "openclip over http, 2 workers": lambda: openclip(args, url, 2),
            "webdataset, in its process": lambda: webdataset(args, spec, 1),
            "webdataset, 2 processes": lambda: webdataset(args, spec, 2),
            "datago over http": lambda: datago(args, url, count),
            "TurboJPEG alone, a core": lambda: turbojpeg(images, args.copies // 4 + 1),
        }
        rates = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, run in runs.items():
                rates[name].append(run())
        for name, found in rates.items():
            print(f"{name:32} {statistics.median(found):8.0f} pictures/s  ({min(found):.0f} to {max(found):.0f})")


if __name__ == "__main__":
    main()
