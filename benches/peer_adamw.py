"""A step of PyTorch's AdamW over parameters of a model's shapes, in turns of `fused` and `foreach`.

    python benches/peer_adamw.py [model] [threads]
"""

import sys
import time

import open_clip
import torch

MODEL, THREADS = (sys.argv[1:] + ["ViT-B-32", "2"][len(sys.argv) - 1 :])[:2]
torch.set_num_threads(int(THREADS))
model = open_clip.create_model(MODEL)
params = [param for param in model.parameters() if param.requires_grad]
for param in params:
    param.grad = torch.randn_like(param)
print(f"{sum(param.numel() for param in params) / 1e6:.0f} M parameters")
for kind in ("fused", "foreach"):
    adamw = torch.optim.AdamW(params, lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, **{kind: True})
    adamw.step()
    times = []
    for _ in range(7):
        start = time.perf_counter()
        adamw.step()
        times.append(time.perf_counter() - start)
    print(f"{kind}: {sorted(times)[len(times) // 2]:.3f} s", flush=True)
