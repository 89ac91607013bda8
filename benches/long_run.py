"""A thousand steps with a checkpoint every hundred: what saving costs, and whether memory stays flat.

    python3 benches/long_run.py target/release/openclip [STEPS]

Both sides come from one run: the steps while a checkpoint is taken and written against those before it. Standard library alone.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

EVERY = 100
# Steps from the one that is saved on, in which the writing is over.
WINDOW = 20


def run(binary, steps, logs):
    """Runs the training; gives (step, resident MiB) pairs."""
    repository = pathlib.Path(__file__).resolve().parent.parent
    batch = 32
    arguments = f"""train --model {repository}/configs/train/quickstart-model.json --dataset-type synthetic
        --train-num-samples {steps * batch} --batch-size {batch} --epochs 1 --warmup 10 --workers 1 --device cpu
        --logs {logs} --name run --save-every-n-steps {EVERY} --keep-last 2 --log-every-n-steps 1""".split()
    process = subprocess.Popen([binary, *arguments], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    lines = logs / "run/train.jsonl"
    memory = []
    while process.poll() is None:
        time.sleep(0.25)
        try:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            step = json.loads(lines.read_text().splitlines()[-1])["step"]
        except (OSError, IndexError, json.JSONDecodeError):
            continue
        resident = [line for line in status.splitlines() if line.startswith("VmRSS")]
        if resident:
            memory.append((step, int(resident[0].split()[1]) / 1024))
    if process.returncode:
        sys.exit(f"the run ended with status {process.returncode}")
    return memory


def overhead(times):
    """Share of the time of EVERY steps that one checkpoint costs, for each checkpoint."""
    shares = []
    for saved in range(EVERY, len(times) - WINDOW, EVERY):
        at = saved - 1  # times[0] is step 1
        usual = statistics.median(times[at - 50 : at])
        during = sum(times[at : at + WINDOW])
        before = sum(times[at - WINDOW : at])
        shares.append((during - before) / (usual * EVERY))
    return shares


def main():
    binary, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as folder:
        logs = pathlib.Path(folder)
        memory = run(binary, steps, logs)
        times = [json.loads(line)["batch_time"] for line in (logs / "run/train.jsonl").read_text().splitlines()]
        size = sum(f.stat().st_size for f in (logs / "run/checkpoints/epoch_1").iterdir())
    shares = overhead(times)
    print(f"step {1000 * statistics.median(times):.1f} ms, checkpoint {size / 2**20:.1f} MiB")
    print(f"overhead of a checkpoint every {EVERY} steps: median {100 * statistics.median(shares):.2f} %,",
          "each " + ", ".join(f"{100 * share:.2f}" for share in shares))
    part = lambda low, high: statistics.mean(m for step, m in memory if low <= step / steps < high)
    early, late = part(0.2, 0.4), part(0.8, 1.0)
    print(f"resident memory: {early:.1f} MiB in steps 20-40 %, {late:.1f} MiB in steps 80-100 %: {100 * (late / early - 1):+.2f} %,",
          f"largest {max(m for _, m in memory):.1f} MiB")


if __name__ == "__main__":
    main()
