"""Writes the inputs that the fuzz targets start from to fuzz/corpus/TARGET: files of tests/parity/data, and shards of its pictures."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests/parity/data"
# Of an input, in bytes; cargo fuzz is told the same.
LARGEST = 1 << 16


def write(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    if len(data) <= LARGEST:
        (folder / name).write_bytes(data)


def tensors(path):
    """Bytes of the tensors of a .safetensors file, by name."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    for name, info in header.items():
        start, end = info["data_offsets"]
        yield name, data[8 + length + start : 8 + length + end]


def shard(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


for path in sorted(DATA.rglob("*")):
    name = "-".join(path.relative_to(DATA).parts)
    if path.suffix in (".parquet", ".arrow", ".feather"):
        write("tables", name, path.read_bytes())
    if path.suffix in (".pt", ".pkl"):
        write("torch", name, path.read_bytes())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.endswith("data.pkl"):
                        write("torch", name + ".pkl", archive.read(member))
    elif path.suffix == ".safetensors":
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        write("safetensors", name, data)
        if length < 2000:
            write("safetensors", name + ".header", data[8 : 8 + length])
    elif path.suffix == ".npz":
        write("npz", name, path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                write("npz", name + "-" + member.replace("/", "-"), archive.read(member))

# An array that is larger than its file could be.
header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (40000, 40000), }\n"
write("npz", "large.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64))

pictures = [(name[5:], data) for name, data in tensors(DATA / "pixels.safetensors") if name.startswith("file/")]
formats = [(name[5:], data) for name, data in tensors(DATA / "formats.safetensors.gz") if name.startswith("file/")]
for name, data in pictures + formats:
    write("picture", name, data)

small = sorted(pictures, key=lambda picture: len(picture[1]))[:4]
members = []
for index, (_, data) in enumerate(small):
    members += [(f"{index:05}.png", data), (f"{index:05}.txt", b"a caption"), (f"{index:05}.cls", b"3")]
members.append(("a" * 150 + "é/long.name.jpg", small[0][1]))
plain = shard(members)
write("tar", "plain.tar", plain)
write("tar", "packed.tar.gz", gzip.compress(plain, mtime=0))
write("tar", "no_samples.tar", shard([("README", b"none")]))
write("tar", "empty.tar", shard([]))
