#!/usr/bin/env python3
"""What stays trainable when OpenCLIP locks a tower.

data/locking.json: {model: {"image": {groups: …}, "text": {layers: …}}} with, for each number of unlocked groups or layers, how many
parameters are trainable and the digest (`export_profile.py`) of their sorted keys. Models are built without memory. "text_norms" is
"text" with the LayerNorms of a Hugging Face tower left trainable. 3.3.0 locks a ResNet as a whole; its groups are those that upstream's
main branch has (`ModifiedResNet.layer_groups`): the three convolutions of the stem, each stage, the attention pool.

Needs `pip install open_clip_torch==3.3.0 transformers`.
"""

import argparse
import json
from pathlib import Path
from unittest import mock

import export_hftext
import export_profile
import open_clip
import torch
from open_clip import hf_model
from open_clip.modified_resnet import ModifiedResNet

DATA = Path(__file__).resolve().parent / "data"

NATIVE = ["ViT-B-32", "ViT-B-16-plus", "ViT-H-14-CLIPA", "RN50", "coca_ViT-B-32"]
TIMM = [
    "ViT-B-16-SigLIP", "convnext_base_w", "convnext_xxlarge", "EVA01-g-14", "EVA02-B-16", "PE-Core-B-16", "ViTamin-S", "ViTamin-XL-256",
    "MobileCLIP-S1", "MobileCLIP-B", "MobileCLIP2-S4", "MobileCLIP2-L-14", "swin_base_patch4_window7_224", "vit_medium_patch16_gap_256",
    "vit_relpos_medium_patch16_cls_224",
]  # fmt: skip
TEXT = ["roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "mt5-base-ViT-B-32", "nllb-clip-base"]
UNLOCKED = (0, 1, 2, 5, 11, 13, 100)


def build(name: str):
    config = open_clip.get_model_config(name)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    named = lambda name, **_: export_hftext.encoder_config({"hf_model_name": name})
    with torch.device("meta"), mock.patch.object(hf_model.AutoConfig, "from_pretrained", named):
        return kind(**config)


def trainable(model) -> list:
    keys = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [len(keys), export_profile.digest(keys)]


def locked(name: str, lock, counts=UNLOCKED) -> dict:
    found = {}
    for count in counts:
        model = build(name)
        for parameter in model.parameters():
            parameter.requires_grad = True
        lock(model, count)
        found[str(count)] = trainable(model)
    return found


def lock_image(model, count: int) -> None:
    visual = model.visual
    if not isinstance(visual, ModifiedResNet):
        visual.lock(count)
        return
    stem = [visual.conv1, visual.bn1, visual.conv2, visual.bn2, visual.conv3, visual.bn3]
    groups = [stem, *([stage] for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4)), [visual.attnpool]]
    for group in groups[: max(len(groups) - count, 0)]:
        for module in group:
            module.requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DATA / "locking.json")
    args = parser.parse_args()
    table = {}
    for name in NATIVE + TIMM:
        table[name] = {"image": locked(name, lock_image)}
    for name in NATIVE + ["ViT-B-16-SigLIP"]:
        lock = lambda model, count: (model if hasattr(model, "lock_text_tower") else model.text).lock_text_tower(count)
        if hasattr(open_clip.CoCa, "lock_text_tower") or "coca" not in name:
            table[name]["text"] = locked(name, lock)
    for name in TEXT:
        counts = UNLOCKED[:1] if name.startswith("nllb") else UNLOCKED  # Upstream does not know NLLB's layers.
        table[name] = {"text": locked(name, lambda model, count: model.text.lock(count, True), counts)}
        table[name]["text_norms"] = locked(name, lambda model, count: model.text.lock(count, False), counts)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(kinds)}" for name, kinds in table.items())
    args.output.write_text("{\n" + lines + "\n}\n")
    print(f"{len(table)} models")


if __name__ == "__main__":
    main()
