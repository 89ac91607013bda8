#!/usr/bin/env python3
"""Training checkpoints as upstream OpenCLIP leaves them, and five more steps from each in f32.

Outputs under data/resume/, for each case NAME.pt (the checkpoint), NAME.safetensors (batches, final weights) and NAME.json:
  names     two epochs of three steps with the groups of `open_clip_train.main` 3.3.0, saved by DistributedDataParallel with a scaler
  declared  the same with the groups of upstream's main branch and its counters
  locked    the groups of 3.3.0 with a locked image tower, in the form that `torch.save` had before zip archives
  weights   a checkpoint without an optimizer, and nothing else

Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import json
from pathlib import Path

import open_clip
import torch
from open_clip_train import scheduler
from upstream import VERSIONS, build, captions, excluded_from_decay, in_bytes, pixels, save

CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 12, "patch_size": 6, "width": 8, "head_width": 4, "layers": 1},
    "text_cfg": {"context_length": 8, "vocab_size": 48, "width": 8, "heads": 2, "layers": 1},
}
HYPER = {"lr": 2e-3, "wd": 0.2, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "warmup": 2}
STEPS, EPOCHS, BEFORE, AFTER, BATCH = 3, 4, 6, 5, 8


def groups_by_name(model) -> list:
    """The rule inside `open_clip_train.main.main` of 3.3.0."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for n, p in named if excluded_from_decay(n, p)], "weight_decay": 0.0},
        {"params": [p for n, p in named if not excluded_from_decay(n, p)], "weight_decay": HYPER["wd"]},
    ]


def groups_declared(model) -> list:
    """The rule of upstream's main branch (open_clip_train/optim.py, 89fb801f): groups in the order of their first parameter."""
    groups = {}
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim <= 1 or name in ("positional_embedding", "visual.positional_embedding")
        decay = 0.0 if exempt else HYPER["wd"]
        group = {"params": [], "weight_decay": decay, "group_name": "no_wd" if exempt else "wd"}
        groups.setdefault(exempt, group)["params"].append(parameter)
    return list(groups.values())


def train(model, optimizer, batches, first: int) -> list:
    schedule = scheduler.cosine_lr(optimizer, HYPER["lr"], HYPER["warmup"], STEPS * EPOCHS)
    rates = []
    for step, (image, text) in enumerate(batches, start=first):
        schedule(step)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        open_clip.ClipLoss()(**model(image, text)).backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.605170185988092)
    return rates


def export(output: Path, name: str, seed: int) -> None:
    model = build(CONFIG, seed)
    if name == "locked":
        model.lock_image_tower()
    groups = groups_declared(model) if name == "declared" else groups_by_name(model)
    betas = (HYPER["beta1"], HYPER["beta2"])
    optimizer = torch.optim.AdamW(groups, lr=HYPER["lr"], betas=betas, eps=HYPER["eps"])
    side, text = CONFIG["vision_cfg"]["image_size"], CONFIG["text_cfg"]
    batches = [
        (pixels(BATCH, 3, side, side), captions(BATCH, text["context_length"], text["vocab_size"], None))
        for _ in range(BEFORE + AFTER)
    ]
    train(model, optimizer, batches[:BEFORE], 0)

    prefix = "module." if name == "names" else ""
    state_dict = type(model.state_dict())((prefix + k, v) for k, v in model.state_dict().items())
    checkpoint = {"epoch": BEFORE // STEPS, "name": name, "state_dict": state_dict}
    if name != "weights":
        checkpoint["optimizer"] = optimizer.state_dict()
    if name == "names":
        scale = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}
        checkpoint["scaler"] = {**scale, "_growth_tracker": 6}
    if name == "declared":
        checkpoint |= {"global_step": BEFORE, "samples_seen": BEFORE * BATCH}
    torch.save(checkpoint, output / f"{name}.pt", _use_new_zipfile_serialization=name != "locked")

    if name == "weights":
        return
    rates = train(model, optimizer, batches[BEFORE:], BEFORE)
    tensors = {f"final/{k}": v for k, v in model.state_dict().items()}
    for i, (image, text) in enumerate(batches[BEFORE:]):
        tensors |= {f"input/image.{i}": in_bytes(image), f"input/text.{i}": text}
    save(tensors, output / f"{name}.safetensors")
    content = {"model_cfg": CONFIG, "hyperparameters": HYPER, "lr": rates, "steps_per_epoch": STEPS, "epochs": EPOCHS}
    (output / f"{name}.json").write_text(json.dumps({**content, **VERSIONS}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parent / "data" / "resume"
    parser.add_argument("--output", type=Path, default=default)
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("names", "declared", "locked", "weights"), start=3000):
        export(output, name, seed)


if __name__ == "__main__":
    main()
