"""What the exporters of the model families share.

A case is <case>.safetensors with
  weights/<key>                                      state dict
  input/{image,text}
  output/{image_features,text_features}[_norm], output/loss, …   as `export_models.evaluate` computes them, in evaluation mode
  grad/<key>                                         of CLIP's loss
and <case>.json with its `model_cfg`. `tests/src/family.rs` reads both.
"""

import argparse
import json
from pathlib import Path

import export_init
import export_models
import export_profile
import open_clip
import timm
import torch
from safetensors.torch import load_file, save_file


def export(name: str, config: dict, model, inputs, seed: int, output: Path, **more) -> str:
    """Writes a case; `more` goes into its JSON. Returns a line that says how far torch's own f32 is from f64."""
    image, text = inputs
    outputs, gradients = export_models.evaluate(model, image, text)
    tensors = {f"weights/{k}": v for k, v in model.state_dict().items()}
    tensors |= {"input/image": image, "input/text": text}
    tensors |= {f"output/{k}": v for k, v in outputs.items()}
    tensors |= {f"grad/{k}": v for k, v in gradients.items()}
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, output / f"{name}.safetensors")
    error = export_models.deviation(model, image, text, outputs, gradients)
    description = {
        "case": name,
        "model_cfg": config,
        "float32_error_of_torch": error,
        "seed": seed,
        "versions": {"open_clip": open_clip.__version__, "timm": timm.__version__, "torch": torch.__version__.split("+")[0]},
        **more,
    }
    (output / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")
    size = (output / f"{name}.safetensors").stat().st_size // 1000
    floor = error["gradients_rel_to_tensor_max"]
    return f"{name:16} {size:4} kB  loss {float(outputs['loss']):.4f}  torch f32 gradients {floor:.1e}"


def export_parameters(names: list[str], output: Path):
    """`parameters.json` of these configurations, as `export_profile.py` describes it."""
    counted = {name: export_profile.count(name) for name in names}
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(c)}" for n, c in counted.items())
    (output / "parameters.json").write_text("{\n" + lines + "\n}\n")


def export_initial_weights(cases: dict, models, output: Path):
    """`init.json`, as `export_init.py` describes it; `models(config, name)` yields fresh models of several seeds."""
    found = {}
    for name, config in cases.items():
        states = [{k: v.detach() for k, v in m.state_dict().items()} for m in models(config, name)]
        keys = [k for k in states[0] if not k.endswith("num_batches_tracked")]
        parameters = {k: export_init.describe(torch.stack([s[k] for s in states])) for k in keys}
        found[name] = {"model_cfg": config, "seeds": export_init.SEEDS, "parameters": parameters}
    (output / "init.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


def check_saved(folder: Path, data: Path, build, cases: dict):
    """Loads what the test `save_for_open_clip` wrote, strictly, and compares every value."""
    for name, config in cases.items():
        model = build(config, 7)
        saved = load_file(folder / f"{name}.saved.safetensors")
        counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked") and k not in saved}
        model.load_state_dict({**saved, **counters}, strict=True)
        stored = load_file(data / f"{name}.safetensors")
        for key, value in model.state_dict().items():
            assert key in counters or torch.equal(value, stored[f"weights/{key}"]), (name, key)
    print(f"{len(cases)} models of {folder} load strictly, every value is the same")


def main(doc: str, data: Path, cases: dict, export, random_case, seed: int, check, others=()):
    """Command line of an exporter: its cases and `others(output)` by default, else `--fuzz` or `--saved`.

    `export(name, case, seed, output)` writes a case of `cases` or of `random_case(seed)`; `check(folder)` judges saved ones.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=data)
    parser.add_argument("--fuzz", type=int, nargs=2, metavar=("SEED", "COUNT"), help="random models instead")
    parser.add_argument("--saved", type=Path, help="checks what the test `save_for_open_clip` wrote there instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.saved:
        return check(args.saved)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.fuzz:
        first, count = args.fuzz
        for number in range(first, first + count):
            print(export(f"random_{number}", random_case(number), number, args.output))
        return None
    for i, name in enumerate(cases):
        print(export(name, cases[name], seed + i, args.output))
    for other in others:
        other(args.output)
    return None
