#!/usr/bin/env python3
"""Small tar archives in every format, and the samples that Python reads from them.

Outputs under data/tar/: one NAME.tar.gz per archive, and samples.json with what `tarfile` and webdataset's rule of keys give:
archive -> list of [key, bytes of the image, CRC-32 of the image, caption]. Zeros between archives are ignored.

Needs GNU tar, and `pip install webdataset`.
"""

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

from webdataset.tariterators import base_plus_ext

OUT = Path(__file__).resolve().parent / "data" / "tar"
IMAGES = [bytes([k]) * (300 + 211 * k) for k in range(3)]
LONG = "d" * 90 + "/" + "e" * 80 + "/"
HOLE = 1 << 16


def members(prefix: str = "") -> list:
    return [
        (f"{prefix}{k:03}{suffix}", data)
        for k, image in enumerate(IMAGES)
        for suffix, data in ((".JPG", image), (".txt", f"caption {k} \u00fc\u4e2d".encode()))
    ]


def written(items: list, form: int, headers=lambda name, data: {}, **kwargs) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **kwargs) as tar:
        for name, data in items:
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), headers(name, data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def with_checksum(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def edited(archive: bytes, edit) -> bytes:
    """Calls `edit` with the header of every member."""
    out, at = bytearray(archive), 0
    while out[at]:
        info = tarfile.TarInfo.frombuf(bytes(out[at : at + 512]), "utf-8", "strict")
        header = bytearray(out[at : at + 512])
        edit(header)
        out[at : at + 512] = with_checksum(header)
        at += 512 + -(-info.size // 512) * 512
    return bytes(out)


def base256(header: bytearray) -> None:
    size = int(bytes(header[124:135]), 8)
    header[124:136] = b"\x80" + size.to_bytes(11, "big")


def signed(archive: bytes) -> bytes:
    """Checksums as old writers made them, from signed bytes."""
    out, at = bytearray(archive), 0
    while out[at]:
        info = tarfile.TarInfo.frombuf(bytes(out[at : at + 512]), "utf-8", "strict")
        header = bytearray(out[at : at + 512])
        header[265:268] = b"\xff\xfe\xfd"  # in the owner's name
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(b - 256 if b > 127 else b for b in header)
        out[at : at + 512] = header
        at += 512 + -(-info.size // 512) * 512
    return bytes(out)


def folder(room: Path) -> None:
    for name, data in members():
        (room / name).write_bytes(data)


def sparse_folder(room: Path, parts: int) -> None:
    """000.JPG is `parts` pieces of data with holes between them, and a hole at its end."""
    folder(room)
    with open(room / "000.JPG", "wb") as file:
        for part in range(parts):
            file.seek(part * HOLE)
            file.write(bytes([1 + part % 200]) * 4096)
        file.truncate(parts * HOLE + 100)


def gnu_tar(fill, *flags: str) -> bytes:
    with tempfile.TemporaryDirectory() as room:
        room = Path(room)
        (room / "in").mkdir()
        fill(room / "in")
        subprocess.run(["tar", *flags, "--sort=name", "-cf", room / "out.tar", "-C", room / "in", "."], check=True)
        return (room / "out.tar").read_bytes()


def links(room: Path) -> None:
    folder(room)
    os.remove(room / "001.JPG")
    os.link(room / "000.JPG", room / "001.JPG")
    os.remove(room / "002.JPG")
    os.symlink("000.JPG", room / "002.JPG")


def mac(items: list) -> list:
    fork = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(60)
    return [("photos/.DS_Store", b"\0\0\0\1Bud1")] + [
        member for name, data in items for member in (("photos/._" + name, fork), ("photos/" + name, data))
    ]


def samples(archive: bytes) -> list:
    found: dict = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r|*", ignore_zeros=True) as tar:
        for info in tar:
            key, suffix = base_plus_ext(info.name)
            if info.isreg() and key is not None and not os.path.basename(info.name).startswith("."):
                found.setdefault(key, {})[suffix.lower()] = tar.extractfile(info).read()
    return [
        [key, len(s["jpg"]), zlib.crc32(s["jpg"]), s["txt"].decode()] for key, s in found.items() if {"jpg", "txt"} <= set(s)
    ]


PAX, GNU, USTAR = tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT
note = lambda name, data: {"SCHILY.xattr.user.note": "a\n14 path=b.jpg\n\n"}
ARCHIVES = {
    "ustar_prefix": written(members(LONG), USTAR),
    "gnu_long_name": written(members(LONG + LONG), GNU),
    "pax_long_name": written(members(LONG + LONG + "\u00fc/"), PAX),
    "pax_size": written(members(), PAX, lambda name, data: {"size": str(len(data))}),
    "pax_value_with_lines": written(members(), PAX, note),
    "pax_large": written(members(), PAX, lambda name, data: {"comment": "x" * 200_000}),
    "pax_global": written(members(), PAX, pax_headers={"comment": "a" * 64}),
    "base_256": edited(written(members(), GNU), base256),
    "signed_checksum": signed(written(members(), USTAR)),
    "concatenated": written(members("a"), GNU) + written(members("b"), PAX) + written(members("c"), USTAR),
    "mac": written(mac(members()), PAX),
    "links": gnu_tar(links),
    "links_dereferenced": gnu_tar(links, "--dereference", "--hard-dereference"),
    **{f"format_{form}": gnu_tar(folder, f"--format={form}") for form in ("v7", "oldgnu", "gnu", "ustar", "posix")},
    "sparse_gnu": gnu_tar(lambda room: sparse_folder(room, 3), "-S", "--format=gnu"),
    "sparse_gnu_many": gnu_tar(lambda room: sparse_folder(room, 60), "-S", "--format=gnu"),
    **{
        f"sparse_pax_{version}{name}": gnu_tar(
            lambda room: sparse_folder(room, parts), "-S", "--format=posix", f"--sparse-version={version}"
        )
        for version in ("0.0", "0.1", "1.0")
        for name, parts in (("", 3), ("_many", 60))
    },
}

shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir(parents=True)
expected = {}
for name, archive in ARCHIVES.items():
    expected[name] = samples(archive)
    (OUT / f"{name}.tar.gz").write_bytes(gzip.compress(archive, mtime=0))
(OUT / "samples.json").write_text(json.dumps(expected, indent=None).replace("]], ", "]],\n") + "\n")
