#!/usr/bin/env python3
"""Odd tar archives, and the samples that OpenCLIP's webdataset pipeline makes of them.

Outputs: data/grouping/archives.tar.gz with a file per archive, and data/grouping/samples.json: archive -> `samples`, a list of [key,
bytes of the image, CRC-32 of the image, caption], as `open_clip_train.data` reads and filters them. Where the engine differs on
purpose, `here` is its list, or the beginning of its error, and `why` says why. `image_key` and `text_key` are flags.

Needs `pip install webdataset open_clip_torch` and the command `zstd`.
"""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import tarfile
import tempfile
import warnings
import zlib
from pathlib import Path

from open_clip_train.data import group_by_keys_nothrow, log_and_continue
from webdataset.tariterators import tar_file_expander, url_opener

warnings.filterwarnings("ignore")
OUT = Path(__file__).resolve().parent / "data" / "grouping"
GNU, PAX, USTAR = tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT
IMAGES, CAPTIONS = "jpg;png;jpeg;webp", "txt"


def info(name, data=b"", kind=tarfile.REGTYPE, **fields):
    member = tarfile.TarInfo(name)
    member.size, member.type = len(data), kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member, data


def tar(*members, form=GNU, **kwargs):
    """An archive of names, whose content is the name, of (name, content), or of what `info` gives."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **kwargs) as archive:
        for member in members:
            if isinstance(member, str):
                member = (member, f"content of {member}".encode("utf-8", "surrogateescape"))
            if isinstance(member[0], str):
                member = info(*member)
            archive.addfile(member[0], io.BytesIO(member[1]))
    return out.getvalue()


def pairs(*keys):
    return [f"{key}.{suffix}" for key in keys for suffix in ("jpg", "txt")]


def read(archive, image_key, text_key):
    """What the pipeline hands on, by the filter and the renaming of `open_clip_train.data`."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(archive)
        file.flush()
        # `tarfile_to_samples_nothrow` of OpenCLIP 3.3, without the marks that webdataset puts behind shards since.
        streams = url_opener(iter([{"url": file.name}]), handler=log_and_continue)
        files = tar_file_expander(streams, handler=log_and_continue, eof_value=None)
        samples = list(group_by_keys_nothrow(files, handler=log_and_continue))
    rows = []
    for sample in samples:
        image = next((sample[key] for key in image_key.split(";") if key in sample), None)
        text = next((sample[key] for key in text_key.split(";") if key in sample), None)
        if image is not None and text is not None:
            rows.append([sample["__key__"], len(image), zlib.crc32(image), text.decode()])
    return rows


def row(key, image=None, caption=None):
    image = (image or f"content of {key}.jpg").encode()
    return [key, len(image), zlib.crc32(image), caption or f"content of {key}.txt"]


LONG = "d" * 90 + "/" + "e" * 80 + "/"
plain = tar(*pairs("a", "b", "c"))
zst = subprocess.run(["zstd", "-q", "-c"], input=plain, stdout=subprocess.PIPE, check=True).stdout
SORTED = "the members of sample a do not stand together"
ABC = [row("a"), row("b"), row("c")]

ARCHIVES = {
    "plain": plain,
    "upper_case_suffixes": tar("a.JPG", "a.TXT", "b.Jpeg", "b.tXt"),
    "upper_case_keys": tar("A.jpg", "A.txt", "a.jpg", "a.txt"),
    "suffixes_equal_but_for_case": tar("a.jpg", "a.JPG", "a.txt", "b.jpg", "b.txt"),
    "multi_dot": tar("a.seg.png", "a.jpg", "a.txt", "a.out.txt", "b.v2.final.jpg", "b.txt", "c.jpg", "c.tar.gz", "c.txt"),
    "multi_dot_alone": tar("a.seg.png", "a.txt", "b.jpg", "b.txt"),
    "trailing_dot": tar("a.", "a.jpg", "a.txt", "b..jpg", "b.txt"),
    "directories": tar(info("x/", kind=tarfile.DIRTYPE), *pairs("x/a", "x/b"), info("y", kind=tarfile.DIRTYPE), *pairs("y/a")),
    "dots_in_directories": tar(*pairs("v1.0/a", "v1.0/b.c", "x.y/z/d")),
    "one_key_in_two_directories": tar(*pairs("x/a", "y/a", "a")),
    "dot_slash": tar(*pairs("./a", "./b"), "././c.jpg", "././c.txt"),
    "absolute": tar(*pairs("/etc/a", "//b")),
    "traversal": tar(*pairs("../../etc/passwd", "../../../a", "x/../../b")),
    "odd_characters": tar(*pairs("a b", "c:d", "e\nf", "g\th", "i*?[]", "j\\k", "'l\"", "-rf", "~", "$HOME", "|ls")),
    "unicode": tar(*pairs("caf\u00e9", "cafe\u0301", "\u732b/\u72ac", "\U0001f431", "\u0130"), form=PAX),
    "unicode_gnu": tar(*pairs("caf\u00e9", "\u732b/\u72ac"), form=GNU),
    "upper_case_beyond_ascii": tar("a.\u00c4", "a.jpg", "a.txt", "a.\u00e4", "b.jpg", "b.txt", form=PAX),
    "repeated": tar(*pairs("a", "a", "b", "a")),
    "repeated_image": tar("a.jpg", "a.jpg", "a.txt"),
    "caption_first": tar("a.txt", "a.jpg", "b.json", "b.txt", "b.cls", "b.jpg"),
    "several_images": tar("a.webp", "a.png", "a.txt", "b.jpeg", "b.webp", "b.txt", "c.png", "c.jpg", "c.txt"),
    "other_members": tar("a.jpg", ("a.json", b"{}"), "a.cls", "a.npy", "a.txt", "b.mp4", "b.txt", "c.jpg", "c.txt"),
    "no_suffix": tar("README", *pairs("a"), "LICENSE", "x/Makefile", *pairs("b")),
    "no_suffix_within": tar("a.jpg", "README", "a.txt"),
    "meta": tar("__meta__", ("__info__.json", b"{}"), *pairs("a"), *pairs("__x__/b"), *pairs("x/__y__/c"), "__d.jpg", "__d.txt"),
    "meta_within": tar("a.jpg", "__x__/y.jpg", "a.txt"),
    "hidden": tar(".a.jpg", *pairs("b"), ".b.txt", ".config/c.jpg", ".config/c.txt"),
    "empty_image": tar(("a.jpg", b""), ("a.txt", b"caption"), *pairs("b")),
    "no_end_of_line": tar(("a.jpg", b"x"), ("a.txt", b"  two\r\nlines \n"), ("b.jpg", b"y"), ("b.txt", "\ufeffmark".encode())),
    "ustar_prefix": tar(*pairs(LONG + "a"), form=USTAR),
    "gnu_long_names": tar(*pairs(LONG + LONG + "a", "b" * 120, "c")),
    "pax_long_names": tar(*pairs(LONG + LONG + "\u00fc/a", "b" * 300, "c"), form=PAX),
    "pax_global": tar(*pairs("a", "b"), form=PAX, pax_headers={"comment": "x" * 64, "mtime": "1.5"}),
    "pax_path": tar(*[info(f"{k}", b"x", pax_headers={"path": name}) for k, name in enumerate(pairs("a/b", "c"))], form=PAX),
    "links": tar(*pairs("a"), info("b.jpg", kind=tarfile.LNKTYPE, linkname="a.jpg"), "b.txt",
                 info("c.jpg", kind=tarfile.SYMTYPE, linkname="a.jpg"), "c.txt", *pairs("d")),
    "links_beside": tar("a.jpg", info("a.png", kind=tarfile.SYMTYPE, linkname="a.jpg"), "a.txt", *pairs("b")),
    "devices": tar(info("a.jpg", kind=tarfile.CHRTYPE), "a.txt", info("b.jpg", kind=tarfile.FIFOTYPE), *pairs("c")),
    "old_types": tar(*[info(name, name.encode(), kind=kind) for name, kind in
                       zip(pairs("a", "b"), (tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.CONTTYPE, tarfile.AREGTYPE))]),
    "gzip": gzip.compress(plain, mtime=0),
    "bzip2": bz2.compress(plain),
    "xz": lzma.compress(plain),
    "cut_in_a_caption": plain[:3 * 1024 + 517],
    "cut_in_an_image": plain[:4 * 1024 + 515],
    "cut_in_a_header": plain[:4 * 1024 + 100],
    "cut_between_members": plain[:5 * 1024],
    "cut_between_samples": plain[:4 * 1024],
    "no_archive": b"this is no archive\n" * 100,
    "empty_file": b"",
    "empty_archive": tar(),
    "damaged_header": plain[:2048] + b"\x55" * 512 + plain[2560:],
    "image_key": (tar("a.jpg", "a.seg.png", "a.txt", "b.TIF", "b.txt", "c.jpg", "c.txt"), "seg.png;tif", CAPTIONS),
    "text_key": (tar("a.jpg", "a.caption", "a.txt", "b.jpg", "b.txt", "c.jpg", "c.long.caption"), IMAGES, "caption;long.caption;txt"),
}

PASSED_OVER = "what systems and programs hide there is passed over and counted"
CUT = "what is missing from a sample that was cut off says nothing about the data"
DIFFERENT = {
    "interleaved": (tar("a.jpg", "b.jpg", "a.txt", "b.txt"), SORTED, "members that stand apart are an error"),
    "by_suffix": (tar("a.jpg", "b.jpg", "c.jpg", "a.txt", "b.txt", "c.txt"), SORTED, "members that stand apart are an error"),
    "hidden_within_directories": (
        tar("x/a.jpg", "x/._a.jpg", "x/a.txt", "x/.DS_Store", *pairs("x/b")), [row("x/a"), row("x/b")], PASSED_OVER),
    "mac_folder": (tar(*pairs("a"), *pairs("__MACOSX/b"), *pairs("c")), [row("a"), row("c")], PASSED_OVER),
    "notebook_folder": (tar(*pairs("a", "x/.ipynb_checkpoints/b")), [row("a")], PASSED_OVER),
    "concatenated": (plain + tar(*pairs("d")), ABC + [row("d")], "archives behind one another are read"),
    "gzip_members": (
        gzip.compress(plain[:1536], mtime=0) + gzip.compress(plain[1536:], mtime=0), ABC, "members behind one another are one content"),
    "zstd": (zst, ABC, "Python reads it from 3.14 on"),
    "not_utf8": (
        tar(("a\udce9.jpg", b"image"), ("a\udce9.txt", b"caption"), *pairs("b")),
        [["a\ufffd", 5, zlib.crc32(b"image"), "caption"], row("b")],
        "a name is a text",
    ),
    "blank_caption": (tar("a.jpg", ("a.txt", b" \n"), *pairs("b")), [row("b")], "as on OpenCLIP's main branch"),
}


def main():
    expected, files = {}, {}
    for name, archive in ARCHIVES.items():
        archive, image_key, text_key = archive if isinstance(archive, tuple) else (archive, IMAGES, CAPTIONS)
        files[name] = archive
        expected[name] = {"image_key": image_key, "text_key": text_key, "samples": read(archive, image_key, text_key)}
    for name, (archive, here, why) in DIFFERENT.items():
        files[name] = archive
        samples = [[key.encode("utf-8", "backslashreplace").decode(), *rest] for key, *rest in read(archive, IMAGES, CAPTIONS)]
        assert samples != here, f"{name} is no difference"
        expected[name] = {"image_key": IMAGES, "text_key": CAPTIONS, "samples": samples, "here": here, "why": why}
    OUT.mkdir(parents=True, exist_ok=True)
    packed = tar(*[info(name, data) for name, data in files.items()])
    (OUT / "archives.tar.gz").write_bytes(gzip.compress(packed, mtime=0))
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in expected.items()]
    (OUT / "samples.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(len(files), "archives,", sum(len(value["samples"]) for value in expected.values()), "samples")


if __name__ == "__main__":
    main()
