#!/usr/bin/env python3
"""Reads the offline run of Weights & Biases in a run folder with wandb's own reader and compares it with train.jsonl and results.jsonl.

`check_wandb.py RUN`, after `openclip train --report-to wandb --log-every-n-steps 1`. Needs `pip install wandb==0.18.7`, whose reader is
in Python; `wandb sync RUN/wandb/offline-run-*` of any release sends the run.
"""

import json
import sys
from pathlib import Path

from wandb.proto import wandb_internal_pb2
from wandb.sdk.internal.datastore import DataStore


def records(path: Path) -> list:
    store = DataStore()
    store.open_for_scan(str(path))
    found = []
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        assert record.num == len(found) + 1
        found.append(record)
    return found


def lines(path: Path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    run = Path(sys.argv[1])
    (path,) = run.glob("wandb/offline-run-*/run-*.wandb")
    found = records(path)
    kinds = [record.WhichOneof("record_type") for record in found]
    assert kinds[:2] == ["header", "run"] and kinds[-1] == "exit", kinds
    about = found[1].run
    config = {item.key: json.loads(item.value_json) for item in about.config.update}
    assert config == json.loads((run / "params.json").read_text()) | {key: config[key] for key in ("beta1", "beta2", "eps")}
    history = {}
    for record in found:
        if record.WhichOneof("record_type") == "history":
            values = {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            assert values["_step"] == record.history.step.num
            assert record.history.step.num not in history, "a step in two records"
            history[record.history.step.num] = values
    assert list(history) == sorted(history)
    steps = lines(run / "train.jsonl")
    for step in steps:
        values = history[step["step"]]
        for name, key in [("loss", "loss"), ("lr", "lr"), ("scale", "logit_scale"), ("grad_norm", "grad_norm")]:
            assert values[f"train/{name}"] == step[key], (step, name)
    for result in lines(run / "results.jsonl"):
        values = history[result["step"]]
        assert all(values[f"val/{key}"] == value for key, value in result.items() if key not in ("epoch", "step"))
    print(f"{path.name}: {len(found)} records, {len(steps)} steps, project {about.project}, run {about.run_id}, notes {about.notes!r}")


if __name__ == "__main__":
    main()
