#!/usr/bin/env python3
"""Copies OpenCLIP's facts: model configurations, parameter totals, ImageNet names and prompt templates.

Outputs
  configs/models/<name>.json           the native ViT (32) and CLIPA (6) configurations, byte for byte
  configs/eval/imagenet.json           {"classes": [1000], "templates": [80], "simple_templates": [7]}, "{}" stands for the name
  tests/parity/data/parameters.json    {name: {"total", "visual", "keys", "shapes", "decayed"}} of upstream models without memory;
                                       "shapes" is FNV-1a of the sorted lines `key [d0, d1]` of the state dict, "decayed" that of
                                       the sorted keys of parameters with weight decay by the rule of `open_clip_train.main`

Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import open_clip
import torch
from open_clip.zero_shot_metadata import (
    IMAGENET_CLASSNAMES,
    OPENAI_IMAGENET_TEMPLATES,
    SIMPLE_IMAGENET_TEMPLATES,
)
from upstream import excluded_from_decay

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path(open_clip.__file__).parent / "model_configs"
COUNTS = ("total", "visual", "keys")
# A name in place of "{}" that no template contains.
MARK = "\u0001"


def native_vit(config: dict) -> bool:
    """Whether both towers are OpenCLIP's own transformer, without captioning decoder or multilingual vocabulary."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return (
        isinstance(vision.get("layers"), int)
        and "timm_model_name" not in vision
        and "hf_model_name" not in text
        and "multimodal_cfg" not in config
    )


def selected() -> list[str]:
    names = []
    for path in sorted(CONFIGS.glob("*.json")):
        if native_vit(json.loads(path.read_text())) and "worldwide" not in path.stem:
            names.append(path.stem)
    return names


def digest(lines: list[str]) -> str:
    """FNV-1a, 64 bits, of the sorted lines, each with its line end."""
    value = 0xCBF29CE484222325
    for byte in "".join(f"{line}\n" for line in sorted(lines)).encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def count(name: str) -> dict:
    config = open_clip.get_model_config(name)
    custom = config.pop("custom_text", False)
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with torch.device("meta"):
        model = kind(**config)
    # Counters of BatchNorm are not read.
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    return {
        "total": sum(p.numel() for p in model.parameters()),
        "visual": sum(p.numel() for p in model.visual.parameters()),
        "keys": len(state),
        "shapes": digest([f"{k} {list(v.shape)}" for k, v in state.items()]),
        "decayed": digest([n for n, p in model.named_parameters() if not excluded_from_decay(n, p)]),
    }


def write_parameters(names: list[str], path: Path) -> dict:
    """Writes and returns the `count` of each."""
    counted = {name: count(name) for name in names}
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(c)}" for n, c in counted.items())
    path.write_text("{\n" + lines + "\n}\n")
    return counted


def table(path: Path, names: list[str]) -> dict:
    """`#total/visual/keys` of a text table with one "- `name` … #a/b/c" line per model."""
    found = {}
    for line in path.read_text().splitlines():
        hit = re.match(r"- `([^`]+)` \[.*#(\d+)/(\d+)/(\d+)\s*$", line)
        if hit and hit[1] in names:
            found[hit[1]] = dict(zip(COUNTS, map(int, hit.groups()[1:])))
    return found


def templates(functions) -> list[str]:
    texts = [f(MARK) for f in functions]
    assert all(t.count(MARK) == 1 and "{" not in t for t in texts)
    return [t.replace(MARK, "{}") for t in texts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT, help="repository root")
    parser.add_argument("--table", type=Path, help="a published parameter table; must agree with the count")
    args = parser.parse_args()

    names = selected()
    models = args.output / "configs/models"
    models.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(CONFIGS / f"{name}.json", models / f"{name}.json")

    parameters = args.output / "tests/parity/data/parameters.json"
    parameters.parent.mkdir(parents=True, exist_ok=True)
    counted = write_parameters(names, parameters)
    if args.table:
        published = table(args.table, names)
        own = {n: {k: c[k] for k in COUNTS} for n, c in counted.items()}
        assert published == own, {n: (published.get(n), own[n]) for n in names if published.get(n) != own[n]}

    imagenet = args.output / "configs/eval/imagenet.json"
    imagenet.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "classes": list(IMAGENET_CLASSNAMES),
        "templates": templates(OPENAI_IMAGENET_TEMPLATES),
        "simple_templates": templates(SIMPLE_IMAGENET_TEMPLATES),
    }
    imagenet.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(names)} models, {len(content['classes'])} classes, {len(content['templates'])} templates")


if __name__ == "__main__":
    main()
