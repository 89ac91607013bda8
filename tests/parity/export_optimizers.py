#!/usr/bin/env python3
"""Trajectories of optimizers on a handful of tensors whose gradients are given.

data/optimizers.json has the learning rates and, for each case, what `--opt` and its flags say; data/optimizers.safetensors has
`start/<tensor>`, `gradient/<step>/<tensor>` and `<case>/<step>/<tensor>`, all computed in f64. Tensors whose name begins with "decayed"
have weight decay. PyTorch and timm take the steps; Adafactor of tensors that timm does not factor is written out in NumPy from the
paper (arXiv 1804.04235, algorithms 4 and 5), with the second moment of every tensor factored over its last two axes.

Needs `pip install torch timm safetensors`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from timm.optim import create_optimizer_v2

DATA = Path(__file__).resolve().parent / "data"
SHAPES = {"decayed_matrix": (18, 20), "decayed_small": (4, 3), "decayed_kernel": (5, 3, 2, 2), "bias": (7,), "scale": (1,)}
STEPS = 12
KEPT = (1, 6, 12)
RATES = [0.02 * min(1.0, step / 4) * (1.0 - step / 20) for step in range(1, STEPS + 1)]
WEIGHT_DECAY = 0.1

# Name in `--opt`, its flags, and what PyTorch or timm is asked for.
CASES = {
    "adamw": ({"opt": "adamw"}, {"opt": "adamw", "betas": (0.9, 0.98), "eps": 1e-6}),
    "timm_adamw": ({"opt": "timm/adamw", "settings": {"amsgrad": True}}, {"opt": "adamw", "amsgrad": True}),
    "nadamw": ({"opt": "nadamw"}, {"torch": torch.optim.NAdam, "betas": (0.9, 0.98), "eps": 1e-6, "decoupled_weight_decay": True}),
    "timm_nadamw": ({"opt": "timm/nadamw", "beta2": 0.95}, {"opt": "nadamw", "betas": (0.9, 0.95)}),
    "lion": ({"opt": "lion"}, {"opt": "lion"}),
    "lion_betas": ({"opt": "Timm/Lion", "settings": {"betas": [0.95, 0.98]}}, {"opt": "lion", "betas": (0.95, 0.98)}),
    "lamb": ({"opt": "timm/lamb"}, {"opt": "lamb"}),
    "lamb_free": (
        {"opt": "lamb", "settings": {"max_grad_norm": None, "always_adapt": True}, "eps": 1e-4},
        {"opt": "lamb", "max_grad_norm": None, "always_adapt": True, "eps": 1e-4},
    ),
    "adafactor": ({"opt": "timm/adafactor"}, {"opt": "adafactor", "eps": 1e-30}),
    "adafactor_settings": (
        {"opt": "adafactor", "settings": {"decay_rate": -0.6, "clip_threshold": 0.5}},
        {"opt": "adafactor", "eps": 1e-30, "decay_rate": -0.6, "clip_threshold": 0.5},
    ),
    "sgd": ({"opt": "timm/sgd", "momentum": 0.8}, {"opt": "sgd", "momentum": 0.8}),
    "momentum": ({"opt": "momentum", "settings": {"dampening": 0.1}}, {"opt": "momentum", "dampening": 0.1}),
}  # fmt: skip


def trajectory(start, gradients, asked) -> list:
    asked = dict(asked)
    tensors = {name: torch.nn.Parameter(torch.tensor(values)) for name, values in start.items()}
    decayed = [tensor for name, tensor in tensors.items() if name.startswith("decayed")]
    plain = [tensor for name, tensor in tensors.items() if not name.startswith("decayed")]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": WEIGHT_DECAY}]
    if kind := asked.pop("torch", None):
        optimizer = kind(groups, lr=RATES[0], **asked)
    else:
        optimizer = create_optimizer_v2(groups, lr=RATES[0], weight_decay=WEIGHT_DECAY, **asked)
    points = []
    for rate, gradient in zip(RATES, gradients):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradient[name])
        optimizer.step()
        points.append({name: tensor.detach().numpy().copy() for name, tensor in tensors.items()})
    return points


def adafactor(values, gradients, decay, decay_rate=-0.8, clip_threshold=1.0, eps=1e-30, **_) -> list:
    """Of one tensor with two axes or more."""
    rows = columns = 0.0
    points = []
    for step, (rate, gradient) in enumerate(zip(RATES, gradients), 1):
        kept = 1.0 - step**decay_rate
        square = gradient**2 + eps
        rows = kept * rows + (1.0 - kept) * square.sum(-1, keepdims=True)
        columns = kept * columns + (1.0 - kept) * square.sum(-2, keepdims=True)
        update = gradient / np.sqrt(rows * columns / rows.sum(-2, keepdims=True))
        update /= max(1.0, np.sqrt((update**2).mean()) / clip_threshold)
        values = values - rate * decay * values - rate * update
        points.append(values)
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DATA)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    # Rounded to f32, so that both sides begin with the same numbers.
    draw = lambda scale: {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}
    wide = lambda tensors: {name: values.astype(np.float64) for name, values in tensors.items()}
    start = draw(0.5)
    gradients = [draw(0.2 if step % 3 else 0.01) for step in range(STEPS)]
    tensors = {f"start/{name}": values for name, values in start.items()}
    for step, gradient in enumerate(gradients, 1):
        tensors |= {f"gradient/{step}/{name}": values for name, values in gradient.items()}
    start, gradients = wide(start), [wide(gradient) for gradient in gradients]
    for case, (_, asked) in CASES.items():
        points = trajectory(start, gradients, asked)
        if asked.get("opt") == "adafactor":
            for name in SHAPES:
                if not name.startswith("decayed"):
                    continue
                given = {key: value for key, value in asked.items() if key != "opt"}
                own = adafactor(start[name], [gradient[name] for gradient in gradients], WEIGHT_DECAY, **given)
                if name == "decayed_matrix":  # Large enough for timm, which has the last word.
                    assert np.abs(own[-1] - points[-1][name]).max() < 1e-12
                    continue
                for point, values in zip(points, own):
                    point[name] = values
        for step in KEPT:
            tensors |= {f"{case}/{step}/{name}": values.astype(np.float32) for name, values in points[step - 1].items()}
    save_file(tensors, args.output / "optimizers.safetensors")
    cases = {case: flags for case, (flags, _) in CASES.items()}
    table = {"rates": RATES, "weight_decay": WEIGHT_DECAY, "kept": KEPT, "cases": cases}
    (args.output / "optimizers.json").write_text(json.dumps(table, indent=1) + "\n")
    print(f"{len(cases)} cases, {sum(values.nbytes for values in tensors.values())} bytes")


if __name__ == "__main__":
    main()
