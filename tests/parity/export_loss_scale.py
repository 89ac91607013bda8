#!/usr/bin/env python3
"""The scales of PyTorch's GradScaler over a list of steps, of which some overflow.

data/loss_scale.json: {"initial", "growth_interval", "overflows": [bool, …], "scales": [scale before the step, …]}

Needs `pip install torch`.
"""

import json
import random
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parent / "data"
INITIAL, INTERVAL = 65536.0, 5


def main() -> None:
    chance = random.Random(0)
    overflows = [True] * 3 + [chance.random() < 0.15 for _ in range(57)] + [False] * 12
    scaler = torch.amp.GradScaler("cpu", init_scale=INITIAL, growth_interval=INTERVAL)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    scales = []
    for overflows_now in overflows:
        scales.append(scaler.get_scale())
        scaler.scale(parameter.sum()).backward()
        if overflows_now:
            parameter.grad.fill_(float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    table = {"initial": INITIAL, "growth_interval": INTERVAL, "overflows": overflows, "scales": scales}
    (DATA / "loss_scale.json").write_text(json.dumps(table) + "\n")
    print(scales)


if __name__ == "__main__":
    main()
