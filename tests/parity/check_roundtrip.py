#!/usr/bin/env python3
"""Loads a checkpoint that this engine wrote into Python OpenCLIP, strictly, and compares features.

  openclip embed --model M --pretrained FOLDER/model.safetensors --images PICTURES --texts captions.txt --output EMB
  check_roundtrip.py --checkpoint FOLDER --embeddings EMB --images PICTURES --texts captions.txt

FOLDER holds `open_clip_config.json` and weights (hub layout, loaded as `local-dir:FOLDER`), or weights alone: then the model
configuration comes from --config FILE.json, from the file's metadata, or by name from --model. Rows are compared in the order
of the input: files of a folder sorted by name, rows of a CSV, lines of a text file. Prints one line of JSON; exit status 1
when a difference exceeds --tolerance. Needs `pip install open_clip_torch==3.3.0 pandas`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors import safe_open

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
PREPROCESS = ("mean", "std", "interpolation", "resize_mode")


def weight_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in ("open_clip_model.safetensors", "model.safetensors"):
        if (path / name).is_file():
            return path / name
    sys.exit(f"{path}: no open_clip_model.safetensors or model.safetensors")


def objects(value):
    """Every JSON object inside a value, strings that hold JSON included."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from objects(inner)


def described(weights: Path, config: Path | None) -> tuple[dict | None, dict]:
    """Model configuration and preprocessing found in --config, or in the metadata of the weights."""
    if config:
        source = json.loads(config.read_text())
    else:
        with safe_open(weights, "pt") as file:
            source = file.metadata() or {}
    found = list(objects(source))
    model = next((o for o in found if "vision_cfg" in o and "text_cfg" in o), None)
    preprocess = next((o for o in found if "mean" in o and "std" in o), {})
    return model, preprocess


def load(args):
    """(model, preprocess, tokenizer), by the way an OpenCLIP user would take."""
    weights = weight_file(args.checkpoint)
    hub = args.checkpoint / "open_clip_config.json"
    if hub.is_file() and not args.config and not args.model:
        name = f"local-dir:{args.checkpoint}"
        model, preprocess = open_clip.create_model_from_pretrained(name)
        return name, model, preprocess, open_clip.get_tokenizer(name)
    config, overrides = described(weights, args.config)
    overrides = {f"image_{k}": overrides[k] for k in PREPROCESS if k in overrides}
    with tempfile.TemporaryDirectory() as folder:
        name = args.model
        if config:
            name = "roundtrip"
            (Path(folder) / f"{name}.json").write_text(json.dumps(config))
            open_clip.add_model_config(folder)
        if not name:
            sys.exit(f"{weights}: no model configuration in its metadata; give --config or --model")
        model, preprocess = open_clip.create_model_from_pretrained(name, pretrained=str(weights), **overrides)
        return name, model, preprocess, open_clip.get_tokenizer(name)


def pictures(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted((p for p in source.iterdir() if p.suffix.lower() in PICTURES), key=lambda p: p.name)
    import pandas

    return [Path(p) for p in pandas.read_csv(source, sep="\t")["filepath"]]


def captions(source: Path) -> list[str]:
    lines = source.read_text().split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def compare(name: str, ours: Path, rows: list[torch.Tensor], tolerance: float) -> dict:
    theirs = torch.cat(rows).float().numpy()
    features = np.load(ours).astype(np.float32)
    if features.shape != theirs.shape:
        sys.exit(f"{ours}: shape {features.shape}, Python computes {theirs.shape}")
    difference = float(np.abs(features - theirs).max())
    return {f"{name}_rows": len(theirs), f"{name}_max_abs": difference, f"{name}_ok": difference <= tolerance}


def batched(items: list, size: int = 32):
    return (items[i : i + size] for i in range(0, len(items), size))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder or weight file")
    parser.add_argument("--embeddings", type=Path, required=True, help="what `openclip embed --output` wrote")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    if not args.images and not args.texts:
        parser.error("give --images, --texts or both")

    name, model, preprocess, tokenizer = load(args)
    model.eval()
    report = {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "open_clip": open_clip.__version__,
    }
    if args.images:
        rows = [
            model.encode_image(torch.stack([preprocess(Image.open(p)) for p in part]), normalize=True)
            for part in batched(pictures(args.images))
        ]
        report |= compare("image", args.embeddings / "img_emb/img_emb_0.npy", rows, args.tolerance)
    if args.texts:
        rows = [model.encode_text(tokenizer(part), normalize=True) for part in batched(captions(args.texts))]
        report |= compare("text", args.embeddings / "text_emb/text_emb_0.npy", rows, args.tolerance)
    print(json.dumps(report))
    sys.exit(0 if all(v for k, v in report.items() if k.endswith("_ok")) else 1)


if __name__ == "__main__":
    main()
