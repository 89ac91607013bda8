#!/usr/bin/env python3
"""At how many layers from the output of its tower each parameter stands in OpenCLIP's layer-wise learning rate decay.

data/layer_decay.json: {model: {"image" | "text": [[parameters, digest], …]}}, from the output inward: the n-th entry describes the keys
whose learning rate is multiplied with decay^n, as their number and `export_profile.py`'s digest. Entry 0 is left out; it is the rest.

No release of OpenCLIP has this yet. Needs its sources as of 4.2.0.dev0 (commit 89fb801) in the folder given, in front of
`pip install open_clip_torch==3.3.0 timm transformers`.
"""

import argparse
import json
import math
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
MODELS = [
    "ViT-B-32", "ViT-H-14-CLIPA", "coca_ViT-B-32", "RN50", "ViT-B-16-SigLIP", "convnext_base_w", "EVA02-B-16", "PE-Core-B-16", "ViTamin-S",
    "MobileCLIP-S1", "MobileCLIP2-S4", "swin_base_patch4_window7_224", "vit_medium_patch16_gap_256", "vit_relpos_medium_patch16_cls_224",
    "roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "mt5-base-ViT-B-32",
]  # fmt: skip
# Upstream rounds factors to eight places.
DECAY = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upstream", type=Path, help="the folder src of OpenCLIP's repository")
    parser.add_argument("--output", type=Path, default=DATA / "layer_decay.json")
    args = parser.parse_args()
    sys.path.insert(0, str(args.upstream))
    import export_locking
    import export_profile
    from open_clip_train.optim import layer_decay_param_groups

    table = {}
    for name in MODELS:
        model = export_locking.build(name)
        names = {id(parameter): key for key, parameter in model.named_parameters()}
        for tower in ("image", "text"):
            layers = {}
            for group in layer_decay_param_groups(model, 0.1, **{f"{tower}_layer_decay": DECAY}):
                depth = round(math.log(group["lr_scale"], DECAY))
                layers.setdefault(depth, []).extend(names[id(parameter)] for parameter in group["params"])
            found = [[len(layers[depth]), export_profile.digest(layers[depth])] for depth in range(1, max(layers) + 1)]
            table.setdefault(name, {})[tower] = found
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(towers)}" for name, towers in table.items())
    args.output.write_text("{\n" + lines + "\n}\n")
    print({name: [len(tower) for tower in towers.values()] for name, towers in table.items()})


if __name__ == "__main__":
    main()
