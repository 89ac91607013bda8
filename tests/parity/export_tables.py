#!/usr/bin/env python3
"""Small Parquet and Arrow files of pictures, as several tools write them, and the rows that Python reads from them.

Outputs under data/tables/: the files, and rows.json with what `pyarrow` gives for each that can be read:
file -> list of [name, CRC-32 of the picture or its path, caption], where `null` stands for what is not there.

Needs `pip install pyarrow pandas datasets pillow`.
"""

import io
import json
import shutil
import tempfile
import zlib
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from PIL import Image

OUT = Path(__file__).resolve().parent / "data" / "tables"
ROWS = 7


def picture(k: int) -> bytes:
    """A JPEG of 8 x 6 pixels; a real one, so that the whole loader can be run on it."""
    pixels = np.random.default_rng(k).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG", quality=30)
    return out.getvalue()


PICTURES = [picture(k) for k in range(ROWS)]
CAPTIONS = [f"caption {k} \u00fc\u4e2d" for k in range(ROWS)]
KEYS = [f"{k:09}" for k in range(ROWS)]


def plain(**columns) -> pa.Table:
    return pa.table({"image": pa.array(PICTURES, pa.binary()), "caption": CAPTIONS, **columns})


def img2dataset(embed: bool) -> pa.Table:
    """The columns of its parquet output (`output_format=parquet`), or of the metadata beside its shards."""
    fails = [k in (2, 5) for k in range(ROWS)]
    columns = {
        "url": [f"https://host/{k}.jpg" for k in range(ROWS)],
        "caption": CAPTIONS,
        "key": KEYS,
        "status": ["failed_to_download" if fail else "success" for fail in fails],
        "error_message": ["HTTP Error 404: Not Found" if fail else None for fail in fails],
        "width": pa.array([None if fail else 8 for fail in fails], pa.int32()),
        "height": pa.array([None if fail else 6 for fail in fails], pa.int32()),
        "original_width": pa.array([None if fail else 8 for fail in fails], pa.int32()),
        "original_height": pa.array([None if fail else 6 for fail in fails], pa.int32()),
        "exif": [None if fail else "{}" for fail in fails],
        "sha256": [None if fail else "0" * 64 for fail in fails],
    }
    if embed:
        columns["jpg"] = pa.array([None if fail else p for fail, p in zip(fails, PICTURES)], pa.binary())
    return pa.table(columns)


def in_groups(name: str, table: pa.Table, rows: int, **kwargs) -> None:
    with pq.ParquetWriter(OUT / name, table.schema, **kwargs) as writer:
        for start in range(0, table.num_rows, rows):
            writer.write_table(table.slice(start, rows))


def hugging_face() -> None:
    captions = list(CAPTIONS)
    captions[3] = None
    images = [{"bytes": data, "path": f"dir/{k}.jpg"} for k, data in enumerate(PICTURES)]
    images[1]["path"] = None
    images[4] = None
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string"), "n": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"image": images, "text": captions, "n": list(range(ROWS))}, features=features)
    data.to_parquet(OUT / "hugging_face.parquet", batch_size=3)
    with tempfile.TemporaryDirectory() as folder:
        data.save_to_disk(folder)
        shutil.copy(next(Path(folder).glob("*.arrow")), OUT / "hugging_face.arrow")
    # A cache file, which is written as samples come, in batches.
    with datasets.arrow_writer.ArrowWriter(features=features, path=str(OUT / "cache.arrow"), writer_batch_size=2) as writer:
        for k in range(ROWS):
            writer.write(features.encode_example({"image": images[k], "text": captions[k], "n": k}))
        writer.finalize()


def encodings() -> None:
    for codec in ("none", "snappy", "gzip", "lz4", "zstd", "brotli"):
        pq.write_table(plain(), OUT / f"codec_{codec}.parquet", compression=codec, use_dictionary=False)
    many = pa.table({"image": PICTURES * 12, "caption": [f"{c} {k}" for k, c in enumerate(CAPTIONS * 12)]})
    # Pages of few rows in one group, and rows of a few kinds in a dictionary.
    small = {"data_page_size": 1000, "write_batch_size": 2}
    pq.write_table(many, OUT / "pages_v1.parquet", use_dictionary=False, compression="snappy", **small)
    pq.write_table(many, OUT / "pages_v2.parquet", use_dictionary=["image"], data_page_version="2.0", compression="zstd", **small)
    pq.write_table(
        pa.table({"image": pa.array(PICTURES, pa.large_binary()), "caption": pa.array(CAPTIONS, pa.large_string())}),
        OUT / "large.parquet",
        column_encoding={"image": "DELTA_LENGTH_BYTE_ARRAY", "caption": "DELTA_BYTE_ARRAY"},
        use_dictionary=False,
    )
    required = pa.schema([pa.field("jpg", pa.binary(), nullable=False), pa.field("TEXT", pa.string(), nullable=False)])
    pq.write_table(pa.table([PICTURES, CAPTIONS], schema=required), OUT / "required.parquet")


def lists() -> pa.Table:
    captions = [["one", "two"], [], None, [None, "second"], ["ü"], ["", "b"], ["last"]]
    return pa.table({"image": PICTURES, "caption": pa.array(captions, pa.list_(pa.string())), "id": KEYS})


def broken_text() -> pa.Table:
    """Column `caption` is called a string, and its fourth row is not UTF-8."""
    data = [c.encode() for c in CAPTIONS]
    data[3] = b"caf\xe9"
    binary = pa.array(data, pa.binary())
    text = pa.Array.from_buffers(pa.string(), ROWS, binary.buffers())
    return pa.table({"image": PICTURES, "caption": text})


def encrypted() -> None:
    class Kms(pe.KmsClient):
        def __init__(self, config):
            super().__init__()

        def wrap_key(self, key, master):
            return key

        def unwrap_key(self, key, master):
            return key

    factory = pe.CryptoFactory(Kms)
    for name, plaintext in (("encrypted_footer", False), ("encrypted_column", True)):
        config = pe.EncryptionConfiguration(
            footer_key="f", column_keys={"c": ["image"]}, plaintext_footer=plaintext, double_wrapping=False
        )
        properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
        with pq.ParquetWriter(OUT / f"{name}.parquet", plain().schema, encryption_properties=properties) as writer:
            writer.write_table(plain())


def arrow_files() -> None:
    def write(name: str, table: pa.Table, open_writer, rows: int = 3, **options) -> None:
        options = pa.ipc.IpcWriteOptions(**options)
        with pa.OSFile(str(OUT / name), "wb") as out, open_writer(out, table.schema, options=options) as writer:
            for batch in table.to_batches(rows):
                writer.write_batch(batch)

    write("stream.arrow", lists(), pa.ipc.new_stream)
    write("file.arrow", img2dataset(True), pa.ipc.new_file)
    write("broken_text.arrow", broken_text(), pa.ipc.new_stream)
    write("old.arrow", plain(), pa.ipc.new_stream, use_legacy_format=True)
    views = pa.table({"image": pa.array(PICTURES, pa.binary_view()), "caption": pa.array(CAPTIONS, pa.string_view())})
    write("views.arrow", views, pa.ipc.new_file)
    write("large.arrow", pa.table({"image": pa.array(PICTURES, pa.large_binary()), "caption": pa.array(CAPTIONS, pa.large_string())}), pa.ipc.new_file)
    categories = plain(kind=pa.array(["a", "b"] * 3 + ["a"]).dictionary_encode())
    write("categories.arrow", categories, pa.ipc.new_file)
    for codec in ("lz4", "zstd"):
        feather.write_feather(plain(), OUT / f"{codec}.feather", compression=codec)
    write("wrong_kind.arrow", plain().set_column(1, "caption", pa.array(CAPTIONS).dictionary_encode()), pa.ipc.new_stream)
    data = (OUT / "stream.arrow").read_bytes()
    (OUT / "cut.arrow").write_bytes(data[: len(data) * 3 // 4])


def rows_of(path: Path) -> list:
    table = pq.read_table(path) if path.suffix == ".parquet" else None
    if table is None:
        try:
            table = pa.ipc.open_file(path).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_stream(path).read_all()
    names = {name.lower(): name for name in reversed(table.column_names)}
    first = lambda wanted: next(names[name] for name in wanted if name in names)
    image, caption = first(["image", "jpg", "filepath", "url"]), first(["caption", "text", "title"])
    rows = []
    for number, row in enumerate(table.select([c for c in table.column_names]).to_pylist()):
        value, text = row[image], row[caption]
        path_of = value if isinstance(value, str) else None
        if isinstance(value, dict):
            value, path_of = value["bytes"], value["path"]
        name = path_of or row.get("key") or row.get("id") or f"row {number}"
        if isinstance(text, list):
            text = next((t for t in text if t is not None), None)
        rows.append([name, zlib.crc32(value) if isinstance(value, bytes) else value, text or None])
    return rows


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    hugging_face()
    in_groups("img2dataset.parquet", img2dataset(True), 3)
    in_groups("urls.parquet", img2dataset(False), 4)
    pd.DataFrame({"image": PICTURES, "caption": CAPTIONS}).to_parquet(OUT / "pandas.parquet")
    pq.write_table(pa.table({"SAMPLE_ID": list(range(ROWS)), "URL": [f"pictures/{k}.jpg" for k in range(ROWS)], "TEXT": CAPTIONS}), OUT / "laion.parquet")
    in_groups("lists.parquet", lists(), 4)
    encodings()
    in_groups("broken_text.parquet", broken_text(), 3)
    arrow_files()
    good = [p for p in sorted(OUT.iterdir()) if p.stem not in ("broken_text", "wrong_kind", "cut", "codec_brotli")]
    expected = {path.name: rows_of(path) for path in good}
    encrypted()
    pq.write_table(plain().slice(0, 0), OUT / "no_rows.parquet")
    pq.write_table(pa.table({"picture": PICTURES, "words": CAPTIONS, "n": list(range(ROWS))}), OUT / "other_columns.parquet")
    pq.write_table(plain().set_column(0, "image", pa.array([[1, 2]] * ROWS, pa.list_(pa.uint8()))), OUT / "wrong_image.parquet")
    pq.write_table(plain().set_column(1, "caption", pa.array(range(ROWS), pa.int64())), OUT / "wrong_caption.parquet")
    whole = (OUT / "img2dataset.parquet").read_bytes()
    (OUT / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (OUT / "text.parquet").write_bytes(b"url\tcaption\nhttps://host/1.jpg\tnot a parquet file\n")
    # The second row group's pictures are overwritten, or all that is not wanted; the footer is whole.
    group = pq.ParquetFile(OUT / "img2dataset.parquet").metadata.row_group(1)
    columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    others = set(columns) - {"jpg", "caption", "key"}
    for name, overwritten in (("damaged", {"jpg"}), ("others_damaged", others)):
        data = bytearray(whole)
        for column in (columns[name] for name in overwritten):
            start = column.dictionary_page_offset or column.data_page_offset
            data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
        (OUT / f"{name}.parquet").write_bytes(bytes(data))
    expected["others_damaged.parquet"] = expected["img2dataset.parquet"]
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(rows, ensure_ascii=False)}" for name, rows in expected.items())
    (OUT / "rows.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
