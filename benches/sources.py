#!/usr/bin/env python3
"""The same pictures as tar shards and as Parquet and Arrow files, and how fast openclip reads each.

  sources.py [--count 4000] [--width 512] [--height 384] [--quality 90] [--rounds 5] [--workers 2] [--folder FOLDER]

Pictures are noise over gradients, so that they have the bytes of photographs (some 50 kB at 512 x 384). Four files of each form, row groups
of 100 rows as Hugging Face writes them, in a folder that is kept if it is given.

Build first: `cargo build --release --workspace --examples`. --target is cargo's target folder. Needs `pip install pyarrow pillow numpy`.
"""

import argparse
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FILES = 4


def picture(k: int, args) -> bytes:
    random = np.random.default_rng(k)
    y, x = np.mgrid[0 : args.height, 0 : args.width]
    waves = [np.sin(x / random.uniform(5, 90) + y / random.uniform(5, 90)) for _ in range(3)]
    pixels = np.stack(waves, -1) * 80 + 128 + random.normal(0, 9, (args.height, args.width, 1))
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, format="JPEG", quality=args.quality)
    return out.getvalue()


def write(folder: Path, args) -> list[str]:
    once = [picture(k, args) for k in range(64)]
    share = args.count // FILES
    for at in range(FILES):
        # No two are equal, or a dictionary of parquet's would hold them: bytes behind the end of a JPEG mean nothing.
        data = [once[k % len(once)] + (at * share + k).to_bytes(4, "little") for k in range(share)]
        names = [f"{at:02}{k:07}" for k in range(share)]
        captions = [f"caption of picture {name}" for name in names]
        with tarfile.open(folder / f"{at}.tar", "w") as tar:
            for name, image, caption in zip(names, data, captions):
                for suffix, content in ((".jpg", image), (".txt", caption.encode())):
                    info = tarfile.TarInfo(name + suffix)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        images = pa.StructArray.from_arrays([pa.array(data, pa.binary()), pa.array(names)], ["bytes", "path"])
        table = pa.table({"image": images, "caption": captions, "width": [args.width] * share})
        for codec in ("snappy", "none"):
            pq.write_table(table, folder / f"{codec}{at}.parquet", compression=codec, row_group_size=100)
        with pa.OSFile(str(folder / f"{at}.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
            for batch in table.to_batches(100):
                writer.write_batch(batch)
    braces = f"{{0..{FILES - 1}}}"
    return [f"{folder}/{name}" for name in (f"{braces}.tar", f"snappy{braces}.parquet", f"none{braces}.parquet", f"{braces}.arrow")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("count", 4000), ("width", 512), ("height", 384), ("quality", 90), ("rounds", 5), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--target", type=Path, default=Path(__file__).resolve().parent.parent / "target")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        folder = args.folder or Path(room)
        folder.mkdir(parents=True, exist_ok=True)
        specs = write(folder, args)
        flags = ["--rounds", str(args.rounds), "--workers", str(args.workers)]
        subprocess.run([args.target / "release/examples/bench_sources", *specs, *flags], check=True)


if __name__ == "__main__":
    main()
