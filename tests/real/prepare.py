#!/usr/bin/env python3
"""Builds labelled picture sets from packages that are reachable by name. Nothing of them is part of this repository.

  openmoji   4,484 drawings with names: npm `openmoji` (CC BY-SA 4.0), SVG drawn at --size pixels on white
  digits     1,797 handwritten digits of 8 x 8 pixels: PyPI `scikit-learn`
  photos     crops of the photographs inside PyPI `scikit-image` and `scikit-learn`; validation crops share no pixel with training ones

Each set gets, below --output/<set>/:
  images/, train.csv, val.csv          tab separated, header "filepath<TAB>title<TAB>long_title", absolute paths
  shards/{train,val}-000000.tar …      webdataset: <key>.png|jpg, .txt (title), .json (all fields); shards/sizes.json
and --output/all/ the same for the three together. Class folders with a classes.json {"classes", "templates"} in folder order:
  digits/folder/{train,val}/<digit>/   openmoji/folder/val/<group>/

A picture is in the validation part by a hash of its key, so the split never changes. Variants of one drawing (skin tones, flags of
one region) may fall on both sides.

Needs `pip install scikit-learn scikit-image webdataset resvg_py pillow` and `npm`.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

OPENMOJI = "openmoji@17.0.0"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHOTOS = {
    "skimage": {
        "astronaut.png": "an astronaut in an orange suit in front of a flag",
        "brick.png": "a brick wall",
        "camera.png": "a man with a camera on a tripod",
        "chelsea.png": "a cat looking at the viewer",
        "coffee.png": "a cup of coffee on a saucer with a spoon",
        "coins.png": "old coins on a dark ground",
        "grass.png": "grass seen from above",
        "gravel.png": "gravel seen from above",
        "hubble_deep_field.jpg": "galaxies in deep space",
        "ihc.png": "a tissue section under a microscope, brown and blue",
        "moon.png": "the surface of the moon",
        "motorcycle_left.png": "a motorcycle in a garage",
        "page.png": "a printed page of a book",
        "retina.jpg": "the retina of an eye",
        "rocket.jpg": "a rocket on its launch pad",
    },
    "sklearn": {"china.jpg": "a chinese temple", "flower.jpg": "an orange dahlia flower"},
}
TRAIN_CROPS, VAL_CROPS = 40, 10
SHARD = 1000


@dataclass
class Picture:
    """One picture with its caption; `image` is the encoded file."""

    key: str
    image: bytes
    suffix: str
    title: str
    long_title: str
    held_out: bool
    label: str | None = None
    fields: dict = field(default_factory=dict)


def share(key: str) -> float:
    """A number in [0, 1) that depends on nothing but the key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def encode(image: Image.Image, suffix: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if suffix == "png" else "JPEG", **({} if suffix == "png" else {"quality": 92}))
    return buffer.getvalue()


def npm_package(name: str, cache: Path) -> Path:
    """The unpacked folder of an npm package, fetched once."""
    folder = cache / name.replace("@", "-").replace("/", "-")
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            packed = subprocess.run(
                ["npm", "pack", name, "--silent"], cwd=work, check=True, capture_output=True, text=True
            )
            with tarfile.open(Path(work) / packed.stdout.split()[-1]) as archive:
                archive.extractall(work, filter="data")
            os.rename(Path(work) / "package", folder)
    return folder


def openmoji(size: int, cache: Path):
    import resvg_py

    package = npm_package(OPENMOJI, cache)
    seen = set()
    for entry in json.loads((package / "data/openmoji.json").read_text()):
        name = entry["annotation"]
        if name in seen:
            continue
        seen.add(name)
        svg = package / "color/svg" / f"{entry['hexcode']}.svg"
        drawn = resvg_py.svg_to_bytes(
            svg_path=str(svg), width=size, height=size, background="white", skip_system_fonts=True
        )
        image = Image.open(io.BytesIO(bytes(drawn))).convert("RGB")
        group, subgroup = (entry[k].replace("-", " ") for k in ("group", "subgroups"))
        words = ", ".join(t for t in (entry["tags"], entry["openmoji_tags"]) if t)
        key = f"openmoji-{entry['hexcode']}"
        yield Picture(
            key=key,
            image=encode(image, "png"),
            suffix="png",
            title=name,
            long_title=f"{name}, {subgroup}, {group}" + (f", {words}" if words else ""),
            held_out=share(key) < 0.1,
            label=group,
            fields={"group": group, "subgroup": subgroup, "tags": words},
        )


def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    for i, (pixels, digit) in enumerate(zip(data.images, data.target)):
        image = Image.fromarray(np.uint8(np.minimum(pixels * 16, 255))).resize((64, 64), Image.Resampling.NEAREST)
        key = f"digit-{i:04}"
        yield Picture(
            key=key,
            image=encode(image, "png"),
            suffix="png",
            title=f"a handwritten {DIGITS[digit]}",
            long_title=f"a picture of the handwritten digit {digit}, {DIGITS[digit]}",
            held_out=share(key) < 0.2,
            label=str(digit),
            fields={"digit": int(digit)},
        )


def photos():
    """Training crops come from the left 70% of a photograph, validation crops from the right 30%."""
    import skimage
    import sklearn

    folders = {
        "skimage": Path(skimage.__file__).parent / "data",
        "sklearn": Path(sklearn.__file__).parent / "datasets/images",
    }
    random = np.random.default_rng(0)
    for package, names in PHOTOS.items():
        for file, title in names.items():
            image = Image.open(folders[package] / file).convert("RGB")
            border = int(image.width * 0.7)
            for part, count, left, right in (
                ("train", TRAIN_CROPS, 0, border),
                ("val", VAL_CROPS, border, image.width),
            ):
                for i in range(count):
                    width = int(random.integers((right - left) // 2, right - left + 1))
                    height = min(image.height, int(width * random.uniform(0.7, 1.4)))
                    x = int(random.integers(left, right - width + 1))
                    y = int(random.integers(0, image.height - height + 1))
                    crop = image.crop((x, y, x + width, y + height))
                    name = file.split(".")[0].replace("_", "-")
                    yield Picture(
                        key=f"photo-{name}-{part}-{i:02}",
                        image=encode(crop, "jpg"),
                        suffix="jpg",
                        title=title,
                        long_title=f"a photograph of {title}",
                        held_out=part == "val",
                        fields={"source": file, "box": [x, y, x + width, y + height]},
                    )


def write_csv(folder: Path, rows: dict[str, list]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, pictures in rows.items():
        with open(folder / f"{part}.csv", "w", newline="") as file:
            table = csv.writer(file, delimiter="\t", lineterminator="\n")
            table.writerow(("filepath", "title", "long_title"))
            table.writerows((path, p.title, p.long_title) for path, p in pictures)


def write_shards(folder: Path, rows: dict[str, list]) -> None:
    """Keys are shuffled once, so that a shard holds a mixture."""
    import webdataset

    folder.mkdir(parents=True, exist_ok=True)
    for part, pictures in rows.items():
        order = np.random.default_rng(0).permutation(len(pictures))
        with webdataset.ShardWriter(str(folder / f"{part}-%06d.tar"), maxcount=SHARD, verbose=0) as shards:
            for i in order:
                picture = pictures[i][1]
                shards.write({
                    "__key__": picture.key,
                    picture.suffix: picture.image,
                    "txt": picture.title,
                    "json": {"key": picture.key, "title": picture.title, "long_title": picture.long_title, **picture.fields},
                })  # fmt: skip
    sizes = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            sizes[path.name] = sum(name.endswith(".txt") for name in archive.getnames())
    (folder / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")


def write_folder(folder: Path, rows: dict[str, list], parts: tuple, names: dict, templates: list[str]) -> None:
    for part in parts:
        for path, picture in rows[part]:
            if picture.label in names:
                target = folder / part / picture.label.replace(" ", "-")
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / path.name)
    labels = sorted(names, key=lambda label: label.replace(" ", "-"))
    content = {"classes": [names[label] for label in labels], "templates": templates}
    (folder / "classes.json").write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224, help="side of the drawings in pixels")
    parser.add_argument(
        "--sets", nargs="+", choices=("openmoji", "digits", "photos"), default=("openmoji", "digits", "photos")
    )
    parser.add_argument("--cache", type=Path, help="where downloaded packages stay [OUTPUT/.cache]")
    args = parser.parse_args()
    output = args.output.resolve()
    sources = {
        "openmoji": lambda: openmoji(args.size, (args.cache or output / ".cache").resolve()),
        "digits": digits,
        "photos": photos,
    }

    everything = {"train": [], "val": []}
    for name in args.sets:
        base = output / name
        if base.exists():
            shutil.rmtree(base)
        images = base / "images"
        images.mkdir(parents=True)
        rows = {"train": [], "val": []}
        for picture in sources[name]():
            path = images / f"{picture.key}.{picture.suffix}"
            path.write_bytes(picture.image)
            rows["val" if picture.held_out else "train"].append((path, picture))
        write_csv(base, rows)
        write_shards(base / "shards", rows)
        if name == "digits":
            names = {str(i): word for i, word in enumerate(DIGITS)}
            write_folder(base / "folder", rows, ("train", "val"), names, ["a handwritten {}"])
        if name == "openmoji":
            groups = sorted({p.label for _, p in rows["val"]} - {"extras openmoji", "extras unicode", "component"})
            write_folder(base / "folder", rows, ("val",), {g: g for g in groups}, ["{}", "an emoji of {}"])
        for part, pictures in rows.items():
            everything[part] += pictures
        print(f"{name}: {len(rows['train'])} training and {len(rows['val'])} validation pictures")
    if len(args.sets) > 1:
        shutil.rmtree(output / "all", ignore_errors=True)
        write_csv(output / "all", everything)
        write_shards(output / "all/shards", everything)
        print(f"all: {len(everything['train'])} training and {len(everything['val'])} validation pictures")


if __name__ == "__main__":
    main()
