#!/usr/bin/env python3
"""Three sets of drawings of the same emoji, for fine-tuning on one and testing on the others.

  noto (Apache-2.0), twemoji (CC BY 4.0), openmoji (CC BY-SA 4.0): npm `@iconify-json/NAME`, SVG drawn at --size pixels on white

Every set gets --output/NAME/{train,val}/CLASS/EMOJI.png, eight classes; an emoji is in the same part of each set by a hash of its name, so
that no set shows what another holds out. --output/captions.csv lists the training pictures of noto and twemoji with their names, for a
model that knows both before it is fine-tuned on openmoji. --output/prompts.json has the classes' names and templates.

Needs `pip install resvg_py pillow` and `npm`.
"""

import argparse
import csv
import io
import json
import re
from pathlib import Path

import resvg_py
from PIL import Image
from prepare import npm_package, share

FONTS = ("noto", "twemoji", "openmoji")
CLASSES = {
    "activities": "an activity",
    "animals nature": "an animal or a plant",
    "flags": "a flag",
    "food drink": "food or a drink",
    "objects": "an object",
    "people body": "a person or a part of the body",
    "smileys emotion": "a smiley or a feeling",
    "symbols": "a symbol",
    "travel places": "a vehicle or a place",
}
TEMPLATES = ["a drawing of {}", "an emoji of {}", "{}", "a picture of {}"]
# Five skins of each person would be most of the pictures.
VARIANT = re.compile(r"skin-tone|-low$|-(dark|light|medium)(-|$)")


def draw(icons: dict, name: str, size: int) -> Image.Image:
    icon = icons["icons"][name]
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    drawn = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True
    )
    return Image.open(io.BytesIO(bytes(drawn))).convert("RGB").resize((size, size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=72)
    parser.add_argument("--cache", type=Path, default=Path("npm-cache"))
    args = parser.parse_args()
    captions = []
    for font in FONTS:
        package = npm_package(f"@iconify-json/{font}", args.cache)
        icons = json.loads((package / "icons.json").read_text())
        categories = json.loads((package / "metadata.json").read_text())["categories"]
        count = {"train": 0, "val": 0}
        for category, names in categories.items():
            label = category.lower().replace(" & ", " ")
            if label not in CLASSES:
                continue
            for name in names:
                if VARIANT.search(name) or name not in icons["icons"]:
                    continue
                part = "val" if share(name) < 0.25 else "train"
                path = args.output / font / part / label.replace(" ", "-") / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(icons, name, args.size).save(path)
                count[part] += 1
                if part == "train" and font != "openmoji":
                    words = name.replace("-", " ")
                    captions.append((path.resolve(), f"a drawing of {CLASSES[label]}: {words}"))
        print(font, count)
    with open(args.output / "captions.csv", "w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(("filepath", "title"))
        table.writerows(captions)
    prompts = {"classes": list(CLASSES.values()), "templates": TEMPLATES}
    (args.output / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n")


if __name__ == "__main__":
    main()
