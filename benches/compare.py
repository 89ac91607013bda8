#!/usr/bin/env python3
"""Both sides of a benchmark in one run: openclip and OpenCLIP's pipeline of Pillow, taking turns. Prints JSON lines, then a table row
each. Models, losses, tokenizer and start have `openclip bench --peer`.

  compare.py loader    --images FOLDER_OF_JPEGS [--train]                    one worker thread against one Python process
  compare.py picture   --images FOLDER_OF_JPEGS              decoding and training transform: exact, and with --fast-decode

Build first: `cargo build --release --workspace --examples`. --target is cargo's target folder, --rounds how often each side runs;
the figure of a side is the median of its rounds. Needs `pip install torch==2.11.0 open_clip_torch==3.3.0`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def machine() -> str:
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} CPUs"


def run(command: list, threads: int) -> tuple[dict, float]:
    """The last line of standard output as JSON, and the seconds the process took."""
    env = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1]), seconds


def sides(args) -> tuple[list, list, dict]:
    """Command of openclip, command of the peer, and the figures to compare: name → (ours, theirs, more is better)."""
    examples = args.target / "release/examples"
    if args.what == "loader":
        flags = ["--images", args.images, *(["--train"] if args.train else [])]
        return (
            [examples / "bench_loader", *flags, "--workers", 1],
            [sys.executable, HERE / "peer_loader.py", *flags],
            {"images_per_core_s": True},
        )
    return (
        [examples / "bench_picture", args.images],
        [sys.executable, HERE / "peer_picture.py", args.images],
        {"decode_ms": False, "exact_ms": False, "fast_ms": False, "turbojpeg_ms": False},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("loader", "picture"))
    parser.add_argument("--target", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--images", required=True)
    parser.add_argument("--train", action="store_true")
    args = parser.parse_args()
    ours, theirs, figures = sides(args)
    print(json.dumps({"machine": machine(), "command": " ".join(sys.argv[1:])}))
    results = {"openclip": [], "peer": []}
    for _ in range(args.rounds):
        for side, command in (("openclip", ours), ("peer", theirs)):
            result, seconds = run(command, args.threads)
            result = result if isinstance(result, dict) else {}
            result["process_s"] = round(seconds, 3)
            results[side].append(result)
            print(json.dumps({"side": side, **{k: v for k, v in result.items() if k != "result"}}), flush=True)
    for name, more_is_better in figures.items():
        a, b = (statistics.median(r[name] for r in results[side]) for side in ("openclip", "peer"))
        ratio = a / b if more_is_better else b / a
        print(f"| {args.what}: {name} | {a:.4g} | {b:.4g} | {ratio:.2f}× |")


if __name__ == "__main__":
    main()
