"""Writes the inputs that the fuzz targets start from to fuzz/corpus/TARGET: files of tests/parity/data, shards of its pictures, and
tables, lists and captions. With --small, a few small ones go to tests/parity/data/corpus, where the test `corpus` reads them."""

import bz2
import gzip
import io
import json
import lzma
import struct
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests/parity/data"
SMALL = "--small" in sys.argv
CORPUS = DATA / "corpus" if SMALL else HERE / "corpus"
# Of an input, in bytes; cargo fuzz is told the same.
LARGEST = 1 << 12 if SMALL else 1 << 16
# Inputs of a target.
MOST = 24 if SMALL else 1 << 16
# Targets that the test reads.
READ = ["tar", "shards", "csv", "captions", "tables", "picture"]

written = Counter()


def write(target, name, data):
    if len(data) > LARGEST or written[target] == MOST or (SMALL and target not in READ):
        return
    written[target] += 1
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
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
    if CORPUS in path.parents:
        continue
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
photographs = [(name[5:], data) for name, data in tensors(DATA / "photographs.safetensors") if name.startswith("file/")]
begun = set()
for name, data in pictures + formats + photographs:
    # One of each format.
    if SMALL and (len(data) > LARGEST or data[:4] in begun):
        continue
    begun.add(data[:4])
    write("picture", name.replace("/", "-"), data)

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
for path in sorted(DATA.glob("tar/*.gz")):
    write("tar", path.name, path.read_bytes())
with tarfile.open(DATA / "grouping/archives.tar.gz") as archives:
    for member in archives:
        if member.isfile():
            write("tar", member.name.replace("/", "-"), archives.extractfile(member).read())

LISTS = """shard.tar
{000..010}.tar
a{0..1}::b\n2::0.5
{10..0..2}_{a,b}.tar::@list
p{2.{5..7},3.{2,3}}
\\{1,2\\}{a\\,b,c}
{Y..b..2}x{,.bak}
s3://b/{00..02}.tar::gs://b/a.tar?x=1#y
pipe:aws s3 cp s3://b/{0..2}.tar - | tar x
hf://datasets/o/n@main/a.tar
file://localhost/x/a.tar
https://user:secret@h:80/d/a.tar?x=1
http://[::1]:80/a.tar::b.csv.gz
a/captions.parquet::b.arrow::dataset_coco.json#train::r.token
C:/a.tgz
gopher://host/a"""
for index, line in enumerate(LISTS.split("\n")):
    write("shards", f"pattern{index}", line.replace("\\n", "\n").encode())
write("shards", "lines", b"\xef\xbb\xbfa.tar\r\n\n  s3://b/{c}.tar\nfile:/x/a.tar\n")
write("shards", "sizes", b'{"a.tar": 3, "b.tar": "4", "c.tar": 1e2}')
write("shards", "length", b" 17\n")

# The first byte says the separator, the columns, whether the bytes are packed as well and whether captions are needed.
COMMA, TAB, NAMED, PACKED, BARE = 1, 0, 12, 0x40, 0x80
table = "filepath\ttitle\n" + "".join(f"{n:05}.jpg\ta \u00e9 caption \"{n}\"\r\n" for n in range(20)) + 'x.jpg\t"two ""lines""\nof it"\n'
for name, data in {
    "plain": table.encode(),
    "utf8": b"\xef\xbb\xbf" + table.encode(),
    "utf16": table.encode("utf-16"),
    "utf16_big": b"\xfe\xff" + table.encode("utf-16-be"),
    "gzip": gzip.compress(table.encode(), mtime=0),
    "bzip2": bz2.compress(table.encode()),
    "xz": lzma.compress(table.encode()),
    "broken_utf8": b"filepath\ttitle\na.jpg\t\xff\n",
    "tabs": gzip.compress(b"\t" * (1 << 22), mtime=0),
}.items():
    write("csv", name, bytes([TAB]) + data)
write("csv", "named", bytes([NAMED + COMMA]) + b"a,b,c\n1,2,3\n,,\n4\n")
write("csv", "bare", bytes([BARE]) + b"URL\nhttp://h/a.jpg\nfile:a.jpg\n")
for index, (table, _) in enumerate(json.loads((DATA / "csv.json").read_text())):
    if index % 8 == 0 or len(table) > 200:
        write("csv", f"pandas{index}", bytes([COMMA | (PACKED if index % 16 else 0)]) + table.encode())

with gzip.open(DATA / "tokens/captions.json.gz") as file:
    captions = json.load(file)["captions"]
with gzip.open(DATA / "tokens/hf_text.json.gz") as file:
    captions += json.load(file)["captions"]
FILES = 0x80
for name, start, data in [
    ("json", 0, {"caption": "a cat & <b>", "key": "1", "a": ["b", None], "width": 3}),
    ("coco", FILES, {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "a \u00e9"}]}),
    (
        "karpathy",
        FILES,
        {"images": [{"filename": "a.jpg", "filepath": "val", "split": "train", "sentences": [{"raw": "a"}, {"raw": "b\n"}]}]},
    ),
]:
    write("captions", name, bytes([start]) + json.dumps(data).encode())
write("captions", "nan", b'\0{"caption": "NaN \\"NaN\\"", "a": NaN, "b": [-Infinity, Infinity]}')
write("captions", "lines", bytes([FILES]) + b"1.jpg#0\ta dog .\n1.jpg#1\tanother\r\n2.jpg#0\t\n")
write("captions", "table", bytes([FILES]) + b'image,caption\n1.jpg,"a, b"\n2.jpg,c\n')
for index, caption in enumerate(captions[::40]):
    write("captions", f"caption{index}", bytes([index % 10]) + caption.encode(errors="ignore"))
