#!/usr/bin/env python3
"""What benches/gpu.sh measured, as a table with the share of the card's arithmetic (MFU), and a comparison of losses.

    gpu.py table OUT       rows of every OUT/*.json, with operations from OUT/MODEL.info
    gpu.py losses RUNS     the losses of RUNS/full and RUNS/minimal, step by step

Standard library alone.
"""

import json
import pathlib
import sys

# Dense TFLOP/s by the maker's data sheets: tensor cores in TF32 (which fp32 may use) and in bfloat16.
PEAK = {"H200": (494, 989), "H100": (494, 989), "A100": (156, 312), "L40S": (183, 362), "4090": (82.6, 165.2)}


def table(out):
    print("| model | precision | batch | work | openclip | PyTorch | ratio | MFU | MFU of PyTorch |\n|---|---|---|---|---|---|---|---|---|")
    for path in sorted(out.glob("*.json")):
        try:
            found = json.loads(path.read_text())
        except json.JSONDecodeError:
            print(f"| {path.stem} | failed: see {path.stem}.log |")
            continue
        peaks = [peak for name, peak in PEAK.items() if name in (found["peer"] or "")]
        for row in found["rows"]:
            if row["work"] not in ("images", "train"):
                continue
            info = json.loads((out / f"{row['model']}.info").read_text())
            # Multiply-accumulates, of which a backward pass has twice as many.
            operations = 2 * (info["image_flops"] if row["work"] == "images" else 3 * info["flops"]) * row["size"]
            sides = [row["openclip"], row["peer"]]
            rates = [f"{row['size'] / side['median']:.4g}/s" if side else "" for side in sides]
            share = lambda side: f"{operations / side['median'] / peaks[0][found['precision'] != 'fp32'] / 1e10:.1f} %"
            shares = [share(side) if side and peaks else "" for side in sides]
            ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
            print("|", " | ".join([row["model"], found["precision"], str(row["size"]), row["work"], *rates, ratio, *shares]), "|")


def losses(runs):
    both = []
    for name in ("full", "minimal"):
        lines = [json.loads(line) for line in (runs / name / "train.jsonl").read_text().splitlines()]
        both.append([line["loss"] for line in lines])
    steps = min(map(len, both))
    apart = [abs(a - b) / max(abs(b), 1e-9) for a, b in zip(*both)]
    equal = sum(a == b for a, b in zip(*both))
    print(f"{steps} losses with kernels chosen by measurement and by rule: {equal} equal, largest relative difference {max(apart):.2e}")
    return max(apart) < 0.02


def main():
    what, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    if what == "table":
        table(folder)
    elif not losses(folder):
        sys.exit(1)


if __name__ == "__main__":
    main()
