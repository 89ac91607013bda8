#!/usr/bin/env python3
"""Small random ConvNeXt models of upstream OpenCLIP, and what belongs to that family.

Under data/convnext/:
  <case>.safetensors, <case>.json    as `export_models.py` writes them
  sizes.safetensors                  the case `linear` on pictures of other sizes: <height>x<width>/{image,features}
  drop_path.json                     {"shares": {<name>: [of every block in training]}} of upstream's models
  parameters.json                    of every configuration of the family, as `export_profile.py` writes it
  init.json                          as `export_init.py` writes it

The trunks are timm's, made smaller by the arguments under `timm_kwargs` of `vision_cfg`, a key that upstream does not know.
`--fuzz SEED COUNT --output DIR` makes models of random valid configurations instead, for the ignored test `random_models`.
`--check DIR` loads every `<case>.saved.safetensors` that the ignored test `save_for_open_clip` wrote there, strictly.
Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import copy
import functools
import json
import random
from contextlib import contextmanager
from pathlib import Path

import export_init
import export_models
import export_profile
import open_clip
import timm
import torch
from safetensors.torch import load_file, save_file

DATA = Path(__file__).resolve().parent / "data/convnext"

TRUNK = {"depths": [1, 1, 1, 1], "dims": [3, 4, 5, 6]}
TEXT = {"context_length": 8, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1}


def case(name="convnext_base", vision=None, text=None, trunk=None, batch=2, embed_dim=8, **top):
    vision_cfg = {
        "image_size": 32, "timm_model_name": name, "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
        "timm_drop": 0.0, "timm_drop_path": 0.1, **(vision or {}),
    }  # fmt: skip
    vision_cfg["timm_kwargs"] = {**TRUNK, **(trunk or {})}
    return {"config": {"embed_dim": embed_dim, **top, "vision_cfg": vision_cfg, "text_cfg": {**TEXT, **(text or {})}}, "batch": batch}


CASES = {
    "linear": case(vision={"image_size": [67, 37]}, trunk={"depths": [2, 1, 2, 1]}),
    "mlp": case("convnext_large", {"timm_proj": "mlp"}, quick_gelu=True),
    "xxlarge": case("convnext_xxlarge", {"image_size": [33, 65]}, trunk={"depths": [1, 2, 1, 1]}, custom_text=True),
    "biases": case("convnext_tiny", {"timm_proj": "mlp", "timm_proj_bias": True, "timm_pool": "avg", "image_size": 47}),
    "classifier": case("convnext_xlarge", {"timm_proj": None, "timm_pool": "avg", "timm_drop_path": None, "image_size": 35}),
    "no_map": case(
        "convnext_small", {"timm_proj": "none", "timm_pool": "avg"}, trunk={"ls_init_value": None, "norm_eps": 1e-3}, embed_dim=6
    ),
}


@contextmanager
def trunk_arguments(kwargs: dict):
    """Lets OpenCLIP's adapter make a timm model of other sizes than its name says."""
    original = timm.create_model
    timm.create_model = functools.partial(original, **kwargs)
    try:
        yield
    finally:
        timm.create_model = original


def build(config: dict, seed: int) -> torch.nn.Module:
    config = copy.deepcopy(config)
    with trunk_arguments(config["vision_cfg"].pop("timm_kwargs")):
        model = export_models.build(config, seed)
    perturb(model)
    return model.eval()


@torch.no_grad()
def perturb(model):
    """What `export_models.perturb` does, under timm's names."""
    for name, parameter in model.visual.named_parameters():
        noise = torch.randn_like(parameter)
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "gamma":
            parameter.copy_(0.6 + 0.2 * noise)
        elif parameter.ndim == 1 and leaf == "weight":
            parameter.copy_(1 + 0.2 * noise)
        elif leaf == "bias":
            parameter.add_(0.2 * noise)
        else:
            parameter.copy_(parameter[0].numel() ** -0.5 * noise)


def export(name: str, case: dict, seed: int, output: Path) -> str:
    config, batch = case["config"], case["batch"]
    model = build(config, seed)
    image, text = export_models.inputs(model, config, batch)
    outputs, gradients = export_models.evaluate(model, image, text)
    tensors = {f"weights/{k}": v for k, v in model.state_dict().items()}
    tensors |= {"input/image": image, "input/text": text}
    tensors |= {f"output/{k}": v for k, v in outputs.items()}
    tensors |= {f"grad/{k}": v for k, v in gradients.items()}
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, output / f"{name}.safetensors")
    description = {
        "case": name,
        "model_cfg": config,
        "vanishing_gradients": sorted(n for n, g in gradients.items() if float(g.abs().max()) < 1e-6),
        "float32_error_of_torch": export_models.deviation(model, image, text, outputs, gradients),
        "batch": batch,
        "seed": seed,
        "versions": {"open_clip": open_clip.__version__, "timm": timm.__version__, "torch": torch.__version__.split("+")[0]},
    }
    (output / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")
    size = (output / f"{name}.safetensors").stat().st_size
    floor = description["float32_error_of_torch"]["gradients_rel_to_tensor_max"]
    return f"{name:16} {size // 1000:4} kB  loss {float(outputs['loss']):.4f}  torch f32 gradients {floor:.1e}"


def random_case(seed: int) -> dict:
    draw = random.Random(seed)
    pick = draw.choice
    trunk = {
        "depths": [draw.randint(1, 3) for _ in range(4)],
        "dims": [draw.randint(4, 16) for _ in range(4)],
        "ls_init_value": pick([None, 1e-6, 1e-6, 1.0]),
    }
    if pick([True, False]):
        trunk["norm_eps"] = pick([1e-3, 1e-5])
    sizes = ("tiny", "small", "base", "large", "xlarge", "xxlarge")
    proj = pick(["linear", "linear", "mlp", "mlp", "none", None])
    vision = {
        "image_size": [draw.randint(32, 110), draw.randint(32, 110)],
        "timm_proj": proj,
        "timm_pool": pick(["", "avg"]) if proj in ("linear", "mlp") else "avg",
        "timm_drop_path": pick([None, 0.0, 0.1, 0.5]),
    }
    if proj in ("linear", "mlp") and pick([True, False]):
        vision["timm_proj_bias"] = True
    heads = draw.randint(1, 3)
    text = {"width": heads * draw.randint(4, 8), "heads": heads, "context_length": draw.randint(6, 12), "layers": draw.randint(1, 2)}
    embed_dim = trunk["dims"][3] if proj == "none" else draw.randint(3, 20)
    top = {"quick_gelu": True} if pick([True, False]) else {}
    return case(f"convnext_{pick(sizes)}", vision, text, trunk, draw.randint(2, 6), embed_dim, custom_text=pick([True, False]), **top)


@torch.no_grad()
def export_sizes(output: Path):
    case = CASES["linear"]
    model = build(case["config"], SEED)
    tensors = {}
    for height, width in ((39, 63),):
        image = torch.randn(1, 3, height, width)
        tensors[f"{height}x{width}/image"] = image
        tensors[f"{height}x{width}/features"] = model.encode_image(image)
    save_file(tensors, output / "sizes.safetensors")


def export_drop_path(output: Path):
    shares = {}
    for name, rate in (("convnext_tiny", 0.1), ("convnext_xxlarge", 0.1), ("convnext_base", 0.35)):
        with torch.device("meta"):
            trunk = timm.create_model(name, drop_path_rate=rate)
        blocks = [block for stage in trunk.stages for block in stage.blocks]
        shares[name] = {"rate": rate, "shares": [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]}
    (output / "drop_path.json").write_text(json.dumps(shares) + "\n")


def export_parameters(output: Path):
    names = sorted(path.stem for path in export_profile.CONFIGS.glob("convnext*.json"))
    counted = {name: export_profile.count(name) for name in names}
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(c)}" for n, c in counted.items())
    (output / "parameters.json").write_text("{\n" + lines + "\n}\n")


WIDE = {"depths": [1, 1, 1, 1], "dims": [16, 24, 32, 48]}
INIT = {
    "linear": case(trunk=WIDE, embed_dim=32),
    "mlp": case(vision={"timm_proj": "mlp", "timm_proj_bias": True}, trunk=WIDE, embed_dim=40),
    "classifier": case(vision={"timm_proj": None, "timm_pool": "avg"}, trunk={**WIDE, "ls_init_value": 0.5}, embed_dim=24),
}


def export_init_moments(output: Path):
    cases = {}
    for name, entry in INIT.items():
        config = entry["config"]
        plain = copy.deepcopy(config)
        with trunk_arguments(plain["vision_cfg"].pop("timm_kwargs")):
            states = [{k: v.detach() for k, v in m.state_dict().items()} for m in export_init.models(plain, f"convnext-{name}")]
        parameters = {k: export_init.describe(torch.stack([s[k] for s in states])) for k in states[0]}
        cases[name] = {"model_cfg": config, "seeds": export_init.SEEDS, "parameters": parameters}
    (output / "init.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def check(folder: Path):
    for path in sorted(folder.glob("*.saved.safetensors")):
        name = path.name.removesuffix(".saved.safetensors")
        model = build(CASES[name]["config"], 1)
        model.load_state_dict(load_file(path), strict=True)
        original = load_file(DATA / f"{name}.safetensors")
        assert all(torch.equal(v, original[f"weights/{k}"]) for k, v in model.state_dict().items())
        print(f"{name}: loaded strictly, {len(model.state_dict())} tensors equal")


SEED = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DATA)
    parser.add_argument("--fuzz", type=int, nargs=2, metavar=("SEED", "COUNT"), help="random models instead")
    parser.add_argument("--check", type=Path, help="saved models instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check:
        check(args.check)
        return
    args.output.mkdir(parents=True, exist_ok=True)
    if args.fuzz:
        first, count = args.fuzz
        for seed in range(first, first + count):
            print(export(f"random_{seed}", random_case(seed), seed, args.output))
        return
    for i, name in enumerate(CASES):
        print(export(name, CASES[name], SEED + i, args.output))
    export_sizes(args.output)
    export_drop_path(args.output)
    export_parameters(args.output)
    export_init_moments(args.output)


if __name__ == "__main__":
    main()
