#!/usr/bin/env python3
"""Training on one rank with N threads against N MPI ranks with one thread each, in turns. Prints a line of figures and their ratio.

  ranks.py [--ranks 2] [--model ViT-S-32-alt] [--batch 16] [--steps 12] [--rounds 3] [--target target]

--batch is that of all ranks together. Build first: `cargo build --release -p openclip-cli --features mpi`. A side's figure is the
median over its rounds of the median step, the first two steps left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def samples_per_second(args, ranks: int, folder: Path) -> float:
    batch = args.batch // ranks
    command = [args.target / "release/openclip", "train", "--model", args.model, "--dataset-type", "synthetic"]
    command += ["--train-num-samples", args.batch * args.steps, "--batch-size", batch, "--epochs", 1, "--workers", 1]
    command += ["--device", "cpu", "--warmup", 1, "--log-every-n-steps", 1, "--logs", folder, "--name", f"{ranks}-{os.urandom(4).hex()}"]
    command += ["--save-frequency", 0]
    if ranks > 1:
        command = ["mpirun", "--oversubscribe", "--bind-to", "core", "-n", ranks, *command]
    env = {**os.environ, "RAYON_NUM_THREADS": str(args.ranks // ranks)}
    env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    steps = (folder / command[command.index("--name") + 1] / "train.jsonl").read_text().splitlines()
    return args.batch / statistics.median(json.loads(step)["batch_time"] for step in steps[2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--model", default="ViT-S-32-alt")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--target", type=Path, default=Path("target"))
    args = parser.parse_args()
    figures = {1: [], args.ranks: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for ranks, found in figures.items():
                found.append(samples_per_second(args, ranks, Path(folder)))
    one, many = (statistics.median(found) for found in figures.values())
    rounds = {ranks: [round(x, 2) for x in found] for ranks, found in figures.items()}
    print(f"one rank, {args.ranks} threads {one:.2f}/s; {args.ranks} ranks, one thread each {many:.2f}/s; ratio {many / one:.2f}; {rounds}")


if __name__ == "__main__":
    main()
