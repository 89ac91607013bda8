"""What the exporters of the model families share.

A case is <case>.safetensors with
  weights/<key>                                      state dict
  input/{image,text}
  output/{image_features,text_features}[_norm], output/loss, …   as `export_models.evaluate` computes them, in evaluation mode
  grad/<key>                                         of CLIP's loss
and <case>.json with its `model_cfg`. `tests/src/family.rs` reads both.
"""

import argparse
import copy
import functools
import json
from contextlib import contextmanager
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


@torch.no_grad()
def perturb(tower, shifted=("bias",), gamma=0.6, weights=None):
    """Every parameter of a timm tower off its neutral value: scales around 1 and `gamma`, those that end in `shifted` moved a little, the
    others redrawn, or what `weights(name, parameter, noise)` makes of them."""
    for name, parameter in tower.named_parameters():
        noise = torch.randn_like(parameter)
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "gamma":
            parameter.copy_(gamma + 0.2 * noise)
        elif parameter.ndim == 1 and leaf == "weight":
            parameter.copy_(1 + 0.2 * noise)
        elif leaf.endswith(shifted):
            parameter.add_(0.2 * noise)
        elif weights:
            parameter.copy_(weights(name, parameter, noise))
        else:
            parameter.copy_(parameter[0].numel() ** -0.5 * noise)


class Timm:
    """A family whose image towers are timm's, made smaller by the arguments under `timm_kwargs` of `vision_cfg`, a key that upstream does
    not know. `cases` have a `config` and the size of a `batch`; `seed` is that of the first."""

    def __init__(self, data: Path, seed: int, cases: dict):
        self.data, self.seed, self.cases = data, seed, cases

    def arguments(self, vision: dict, kwargs: dict) -> dict:
        """What `timm.create_model` is called with for a `vision_cfg` and its `timm_kwargs`."""
        return {"img_size": vision["image_size"], **kwargs}

    def unsettle(self, model, vision: dict):
        """Every weight off its neutral value."""
        perturb(model.visual)

    @contextmanager
    def trunk(self, config: dict):
        """Lets OpenCLIP's adapter make a timm model of other sizes than its name says, from the configuration that this yields."""
        plain = copy.deepcopy(config)
        kwargs = self.arguments(plain["vision_cfg"], plain["vision_cfg"].pop("timm_kwargs"))
        original = timm.create_model
        timm.create_model = functools.partial(original, **kwargs)
        try:
            yield plain
        finally:
            timm.create_model = original

    def build(self, config: dict, seed: int) -> torch.nn.Module:
        with self.trunk(config) as plain:
            model = export_models.build(plain, seed)
        self.unsettle(model, config["vision_cfg"])
        return model.eval()

    def export(self, name: str, case: dict, seed: int, output: Path) -> str:
        model = self.build(case["config"], seed)
        inputs = export_models.inputs(model, case["config"], case["batch"])
        return export(name, case["config"], model, inputs, seed, output)

    def weights(self, name: str, output: Path) -> dict:
        """The state dict of a case that is written already."""
        tensors = load_file(output / f"{name}.safetensors")
        return {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}

    def stored(self, name: str, output: Path, seed: int = 1) -> torch.nn.Module:
        model = self.build(self.cases[name]["config"], seed)
        model.load_state_dict(self.weights(name, output))
        return model

    def fresh(self, config: dict, name: str):
        """Models of several seeds as upstream initialises them."""
        with self.trunk(config) as plain:
            yield from export_init.models(plain, f"{self.data.name.replace('_', '-')}-{name}")

    def export_initial_weights(self, cases: dict, output: Path):
        export_initial_weights({name: case["config"] for name, case in cases.items()}, self.fresh, output)

    def check(self, folder: Path):
        check_saved(folder, self.data, self.build, {name: case["config"] for name, case in self.cases.items()})

    def main(self, doc: str, random_case, others=()):
        main(doc, self.data, self.cases, self.export, random_case, self.seed, self.check, others)


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
