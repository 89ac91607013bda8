"""CLIP's loss and its gradients in tiles of as many logits as `openclip` has at a time, by PyTorch.

    python benches/peer_loss.py [pairs] [width] [threads]
"""

import sys
import time

import torch

PAIRS, WIDTH, THREADS = (int(x) for x in (sys.argv[1:] + ["32768", "512", "2"][len(sys.argv) - 1 :]))
TILE = 1 << 24


def sides(image, text, scale):
    """Both directions one after the other, each tile's logits once."""
    gradients = [torch.zeros_like(image), torch.zeros_like(text)]
    loss, height = 0.0, max(1, TILE // PAIRS)
    for side in (0, 1):
        rows, columns = (image, text)[side], (text, image)[side]
        for start in range(0, PAIRS, height):
            part = rows[start : start + height]
            logits = part @ columns.T
            logits *= scale
            own = torch.arange(start, start + len(part))
            log_p = torch.log_softmax(logits, 1)
            loss -= log_p[torch.arange(len(part)), own].sum() * (0.5 / PAIRS)
            slope = log_p.exp_()
            slope[torch.arange(len(part)), own] -= 1
            slope *= 0.5 / PAIRS * scale
            gradients[side][start : start + height] += slope @ columns
            gradients[1 - side].addmm_(slope.T, part)
    return loss, gradients


def both(image, text, scale):
    """Both directions at once, after a pass for the sums of the columns: five products in place of six."""
    gradients = [torch.zeros_like(image), torch.zeros_like(text)]
    loss, height = 0.0, max(1, TILE // PAIRS)
    of_columns = torch.full((PAIRS,), -torch.inf)
    for start in range(0, PAIRS, height):
        logits = image[start : start + height] @ text.T
        logits *= scale
        of_columns = torch.logaddexp(of_columns, logits.logsumexp(0))
    for start in range(0, PAIRS, height):
        part = image[start : start + height]
        logits = part @ text.T
        logits *= scale
        of_rows = logits.logsumexp(1, keepdim=True)
        index, own = torch.arange(len(part)), torch.arange(start, start + len(part))
        loss += (of_rows[:, 0] + of_columns[own] - 2 * logits[index, own]).sum() * (0.5 / PAIRS)
        slope = (logits - of_rows).exp_() + logits.sub_(of_columns).exp_()
        slope[index, own] -= 2
        slope *= 0.5 / PAIRS * scale
        gradients[0][start : start + height] = slope @ text
        gradients[1].addmm_(slope.T, part)
    return loss, gradients


torch.set_num_threads(THREADS)
torch.manual_seed(0)
features = [torch.nn.functional.normalize(torch.randn(PAIRS, WIDTH), dim=1) for _ in range(2)]
with torch.inference_mode():
    for work in (sides, both):
        start = time.perf_counter()
        loss, _ = work(*features, 100.0)
        print(f"{work.__name__}: {time.perf_counter() - start:.2f} s, loss {float(loss):.6f}", flush=True)
