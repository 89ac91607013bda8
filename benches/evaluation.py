#!/usr/bin/env python3
"""Zero-shot retrieval by openclip and by CLIP_benchmark, one after the other on the same pictures, captions and weights: seconds and
peak memory of either process, in JSON.

  evaluation.py [--pairs 30000] [--threads 2] [--openclip target/release/openclip]

The model is small and random with features of 512 numbers, so that comparing all with all is most of the work. Needs
`pip install torch==2.11.0 open_clip_torch==3.3.0 clip-benchmark==1.6.2`.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 64, "head_width": 32, "layers": 1},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
BATCH = 64


def make(folder: Path, pairs: int) -> None:
    rng = random.Random(0)
    (folder / "images").mkdir()
    with open(folder / "pairs.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        for at in range(pairs):
            name = f"images/{at:06}.ppm"
            (folder / name).write_bytes(b"P6\n16 16\n255\n" + rng.randbytes(768))
            rows.writerow([name, " ".join(str(rng.randrange(10**4)) for _ in range(4))])
    (folder / "tiny.json").write_text(json.dumps(CONFIG))


def upstream(folder: Path, threads: int) -> dict:
    """CLIP_benchmark's `evaluate`, without amp."""
    import open_clip
    import torch
    from clip_benchmark.datasets.builder import image_captions_collate_fn
    from clip_benchmark.metrics import zeroshot_retrieval
    from PIL import Image

    torch.set_num_threads(threads)
    open_clip.add_model_config(folder)
    model, _, transform = open_clip.create_model_and_transforms("tiny", pretrained=str(folder / "tiny.pt"))
    tokenizer = open_clip.get_tokenizer("tiny")

    class Pairs(torch.utils.data.Dataset):
        def __init__(self):
            with open(folder / "pairs.csv") as file:
                self.rows = list(csv.DictReader(file))

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, at):
            row = self.rows[at]
            return transform(Image.open(folder / row["image"]).convert("RGB")), [row["caption"]]

    loader = torch.utils.data.DataLoader(Pairs(), batch_size=BATCH, collate_fn=image_captions_collate_fn)
    return zeroshot_retrieval.evaluate(model.eval(), loader, tokenizer, "cpu", amp=False)


def weights(folder: Path) -> None:
    import open_clip
    import torch

    torch.manual_seed(0)
    open_clip.add_model_config(folder)
    torch.save(open_clip.create_model("tiny").state_dict(), folder / "tiny.pt")


def timed(command: list, threads: int, folder: Path) -> tuple:
    env = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    before = time.perf_counter()
    with subprocess.Popen([str(part) for part in command], env=env, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    if status:
        sys.exit(f"{command}: {status}")
    return json.loads(out.strip().splitlines()[-1]), time.perf_counter() - before, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--openclip", type=Path, default=Path("target/release/openclip"))
    parser.add_argument("--upstream", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.weights:
        return weights(args.weights)
    if args.upstream:
        return print(json.dumps(upstream(args.upstream, args.threads)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, args.pairs)
        me = [sys.executable, Path(__file__).resolve(), "--threads", args.threads]
        subprocess.run([str(part) for part in [*me, "--weights", folder]], check=True)
        ours = [args.openclip.resolve(), "eval", "--model", "tiny.json", "--pretrained", "tiny.pt", "--dataset", "pairs.csv", "--json"]
        ours += ["--batch-size", BATCH, "--workers", args.threads]
        sides = {"openclip": ours, "clip_benchmark": [*me, "--upstream", folder]}
        found = {}
        for side, command in sides.items():
            metrics, seconds, gib = timed(command, args.threads, folder)
            metrics = metrics[0]["metrics"] if side == "openclip" else metrics
            found[side] = {"seconds": round(seconds, 2), "peak_gib": round(gib, 3), "metrics": metrics}
            print(json.dumps({side: found[side]}), flush=True)
        ratio = found["clip_benchmark"]["seconds"] / found["openclip"]["seconds"]
        print(json.dumps({"pairs": args.pairs, "ratio": round(ratio, 2)}))


if __name__ == "__main__":
    main()
