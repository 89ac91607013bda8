#!/usr/bin/env python3
"""A text in every compression that files of samples come in, as Python's modules and the command lines `zstd` and `pzstd` make them.

Outputs under data/packed/: `NAME.zst|bz2|xz`, all of them TEXT; `bomb.xz`, 32 MiB of zeros; `dictionary.xz`, which asks for 1 GiB of
memory; `window.zst`, which asks for 256 MiB.
"""

import bz2
import lzma
import subprocess
from pathlib import Path

OUT = Path(__file__).resolve().parent / "data" / "packed"
TEXT = "".join(f"images/{k:05}.jpg\ta caption of picture {k * k % 997}\n" for k in range(400)).encode()


def piped(data: bytes, *command: str) -> bytes:
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    half, tail = TEXT[:7000], TEXT[7000:]
    zstd = lambda data, *flags: piped(data, "zstd", "-q", "-c", *flags)
    foreign = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"other"
    big = lzma.compress(TEXT, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}])
    files = {
        "plain.txt": TEXT,
        "one.zst": zstd(TEXT),
        "strong.zst": zstd(TEXT, "-19", "--no-check"),
        "frames.zst": zstd(half) + zstd(b"") + zstd(tail, "--no-check"),
        "foreign.zst": foreign + zstd(half) + foreign + zstd(tail) + foreign,
        "parallel.zst": piped(TEXT, "pzstd", "-q", "-c", "-p", "2"),
        "one.bz2": bz2.compress(TEXT),
        "streams.bz2": bz2.compress(half, 1) + bz2.compress(b"") + bz2.compress(tail),
        "empty_first.bz2": bz2.compress(b"") + bz2.compress(TEXT),
        "one.xz": lzma.compress(TEXT),
        "streams.xz": lzma.compress(half, check=lzma.CHECK_CRC32) + b"\0" * 8 + lzma.compress(tail, preset=9),
        "sha256.xz": lzma.compress(TEXT, check=lzma.CHECK_SHA256),
        "bomb.xz": lzma.compress(bytes(32 << 20)),
        "dictionary.xz": big,
        "window.zst": piped(TEXT, "zstd", "-q", "-c", "--ultra", "-22", "--long=28"),
    }
    for name, data in files.items():
        (OUT / name).write_bytes(data)
        print(f"{name:16} {len(data)}")


if __name__ == "__main__":
    main()
