#!/usr/bin/env python3
"""Statistics of upstream's initial weights.

data/init.json: for each configuration its `model_cfg` and, by key of the state dict, what SEEDS fresh models hold together:
  shape, count     of one parameter; number of values of all seeds
  constant         the value, where all values of all seeds are one; else
  mean, std        of all values
  kurtosis         fourth moment over the squared variance: 3 for a normal distribution, 1.8 for a uniform one
  largest          largest magnitude

Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import json
from pathlib import Path

import torch
import upstream

DATA = Path(__file__).resolve().parent / "data"
SEEDS = 4

# Widths differ from tower to tower and depths from each other, so that no standard deviation is right by accident.
CONFIGS = {
    "plain": {
        "embed_dim": 96,
        "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 2},
        "text_cfg": {"context_length": 24, "vocab_size": 512, "width": 64, "heads": 4, "layers": 3},
    },
    "layer_scale": {
        "embed_dim": 64,
        "custom_text": True,
        "init_logit_scale": 2.302585092994046,
        "init_logit_bias": -10,
        "vision_cfg": {"image_size": [32, 48], "patch_size": 8, "width": 64, "head_width": 16, "layers": 2, "ls_init_value": 1e-4},
        "text_cfg": {
            "context_length": 16, "vocab_size": 256, "width": 96, "heads": 4, "layers": 2, "proj_bias": True, "ls_init_value": 0.1,
            "mlp_ratio": 2.55,
        },
    },
    "clipa": {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 56, "patch_size": 14, "width": 80, "head_width": 40, "layers": 3, "mlp_ratio": 4.9231,
            "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True, "pos_embed_type": "sin_cos_2d",
        },
        "text_cfg": {
            "context_length": 8, "vocab_size": 300, "width": 48, "heads": 3, "layers": 1, "pool_type": "last", "no_causal_mask": True,
        },
    },
}  # fmt: skip


def fresh(config: dict, name: str):
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        yield upstream.create(config, f"init-{name}")


def moments(config: dict, models) -> dict:
    """Of the parameters that `models` of SEEDS seeds hold together."""
    states = [{k: v.detach() for k, v in model.state_dict().items()} for model in models]
    keys = [k for k in states[0] if not k.endswith("num_batches_tracked")]
    parameters = {k: describe(torch.stack([state[k] for state in states])) for k in keys}
    return {"model_cfg": config, "seeds": SEEDS, "parameters": parameters}


def describe(values: torch.Tensor) -> dict:
    """Of `[seeds, *shape]`."""
    flat = values.double().flatten()
    facts = {"shape": list(values.shape[1:]), "count": flat.numel()}
    if bool((flat == flat[0]).all()):
        return {**facts, "constant": float(flat[0])}
    centred = flat - flat.mean()
    variance = centred.square().mean()
    figures = {
        "mean": flat.mean(),
        "std": variance.sqrt(),
        "kurtosis": centred.pow(4).mean() / variance**2,
        "largest": flat.abs().max(),
    }
    return {**facts, **{k: float(f"{float(v):.6g}") for k, v in figures.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DATA / "init.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: moments(config, fresh(config, name)) for name, config in CONFIGS.items()}
    lines = []
    for name, content in found.items():
        rows = ",\n".join(f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in content["parameters"].items())
        head = f'"model_cfg": {json.dumps(content["model_cfg"])},\n  "seeds": {content["seeds"]}'
        lines.append(f" {json.dumps(name)}: {{\n  {head},\n  \"parameters\": {{\n{rows}\n  }}\n }}")
    args.output.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{sum(len(c['parameters']) for c in found.values())} parameters of {len(found)} models")


if __name__ == "__main__":
    main()
