#!/usr/bin/env python3
"""Small random ModifiedResNets of upstream OpenCLIP: features, loss, gradients in both modes, running statistics.

One <case>.safetensors and one <case>.json per case under data/resnet/. Tensors of a case:
  weights/<key>                        every entry of the state dict, counters included
  input/image                          f32 [B, 3, S, S]
  input/text                           i64 [B, context]
  {eval,train}/image_features, {eval,train}/text_features, {eval,train}/loss    not normalised features, `ClipLoss`
  {eval,train}/grad/<key>              gradient of that loss for every parameter; of the committed cases
                                       every max(1, n // 48)-th of its n values alone, flattened
  once/<key>, twice/<key>              running statistics after one forward pass in training mode, and after a second one over the
                                       batch in reverse order with its pixels doubled
  halves/<key>                         running statistics after an `--accum-freq 2` step: both halves of the batch, twice

`parameters.json` has the format of data/parameters.json. `openai.pt` is a TorchScript archive with the keys of OpenAI's ResNets in f16 and
`openai.safetensors` its features.

  export_resnet.py                                the committed cases
  export_resnet.py --fuzz SEED COUNT --output DIR random ones, for the ignored test `random_resnets`

Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import copy
import json
import random
import tempfile
import zipfile
from pathlib import Path

import family
import open_clip
import torch
from export_models import build, captions
from safetensors.torch import save_file

DATA = Path(__file__).resolve().parent / "data/resnet"
TEXT = {"context_length": 8, "vocab_size": 40, "width": 8, "heads": 2, "layers": 1}


def case(layers, width, size, batch=4, text=None, head_width=None, **top) -> dict:
    vision = {"image_size": size, "layers": layers, "width": width, "patch_size": None}
    if head_width:
        vision["head_width"] = head_width
    return {"config": {"embed_dim": 6, **top, "vision_cfg": vision, "text_cfg": {**TEXT, **(text or {})}}, "batch": batch}


CASES = {
    "odd_image": case([3, 2, 1, 1], 2, 65, batch=3, head_width=16, quick_gelu=True, custom_text=True, init_logit_bias=-2.0),
}
# Of a large gradient only about so many values are committed, at even distances.
SAMPLES = 48


def random_case(seed: int) -> dict:
    rng = random.Random(seed)
    width = rng.choice([2, 3, 4, 5])
    channels = 32 * width
    size = rng.choice([s for s in range(32, 110) if s % 32 != 31])
    heads = rng.choice([h for h in (1, 2, 3, 4, 8) if channels % h == 0])
    layers = [rng.randint(1, 3) for _ in range(4)]
    return case(layers, width, size, rng.randint(4, 7), head_width=channels // heads, quick_gelu=rng.random() < 0.5)


@torch.no_grad()
def unsettle(model: torch.nn.Module) -> None:
    """Norms off their neutral values, so that a swapped or ignored one shows."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.copy_(0.8 + 0.3 * torch.randn_like(module.weight))
            module.bias.copy_(0.3 * torch.randn_like(module.bias))
            module.running_mean.copy_(0.3 * torch.randn_like(module.running_mean))
            module.running_var.copy_(0.5 + torch.rand_like(module.running_var))
            module.num_batches_tracked.fill_(7)


def evaluate(model, image, text) -> dict:
    model.zero_grad()
    # Features first: a pass in training mode does not depend on the running statistics it changes.
    with torch.no_grad():
        outputs = {"image_features": model.encode_image(image), "text_features": model.encode_text(text)}
    loss = open_clip.ClipLoss()(**model(image, text))
    loss.backward()
    outputs["loss"] = loss.detach()
    return outputs | {f"grad/{n}": p.grad.clone() for n, p in model.named_parameters()}


def statistics(model) -> dict:
    return {k: v.clone() for k, v in model.state_dict().items() if "running_" in k}


@torch.no_grad()
def after(model, batches) -> dict:
    model = copy.deepcopy(model).train()
    for image in batches:
        model.encode_image(image)
    return statistics(model)


def export(name: str, case: dict, seed: int, output: Path, sample: bool) -> str:
    config, batch = case["config"], case["batch"]
    model = build(config, seed)
    unsettle(model)
    size = config["vision_cfg"]["image_size"]
    image = torch.randn(batch, 3, size, size)
    text = captions(batch, config["text_cfg"]["context_length"], config["text_cfg"]["vocab_size"], None)
    tensors = {f"weights/{k}": v.clone() for k, v in model.state_dict().items()}
    tensors |= {"input/image": image, "input/text": text}
    outputs = {mode: evaluate(copy.deepcopy(model).train(mode == "train"), image, text) for mode in ("eval", "train")}
    for mode, found in outputs.items():
        for key, value in found.items():
            if sample and key.startswith("grad/"):
                value = value.flatten()[:: max(1, value.numel() // SAMPLES)]
            tensors[f"{mode}/{key}"] = value
    noise = {}
    for mode, found in outputs.items():
        exact = evaluate(copy.deepcopy(model).double().train(mode == "train"), image.double(), text)
        noise[mode] = {
            "features_abs": float((found["image_features"] - exact["image_features"]).abs().max()),
            "gradients_rel_to_tensor_max": max(
                float((found[k] - v).abs().max() / v.abs().max()) for k, v in exact.items() if k.startswith("grad/") and v.abs().max() > 1e-9
            ),
        }
    halves = list(image.split((batch + 1) // 2))
    for place, batches in {"once": [image], "twice": [image, 2 * image.flip(0)], "halves": halves + halves}.items():
        tensors |= {f"{place}/{k}": v for k, v in after(model, batches).items()}
    exact = after(copy.deepcopy(model).double(), [half.double() for half in halves + halves])
    noise["train"]["halves_abs"] = max(float((tensors[f"halves/{k}"] - v).abs().max()) for k, v in exact.items())
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, output / f"{name}.safetensors")
    description = {"case": name, "model_cfg": config, "batch": batch, "seed": seed, "f32_against_f64": noise, "open_clip": open_clip.__version__}
    (output / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")
    return f"{name:16} {(output / f'{name}.safetensors').stat().st_size // 1000} kB  {noise}"


class Archive(torch.nn.Module):
    """The state dict of an OpenAI model: its weights and three constants."""

    def __init__(self, model, config):
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name in ("positional_embedding", "text_projection", "logit_scale"):
            setattr(self, name, getattr(model, name))
        self.register_buffer("input_resolution", torch.tensor(config["vision_cfg"]["image_size"]))
        self.register_buffer("context_length", torch.tensor(config["text_cfg"]["context_length"]))
        self.register_buffer("vocab_size", torch.tensor(config["text_cfg"]["vocab_size"]))

    def forward(self, image):
        return self.visual(image)


@torch.no_grad()
def export_openai(output: Path) -> None:
    """Heads of 64 features in both towers, as all of OpenAI's models have."""
    made = case([1, 2, 1, 1], 2, 32, text={"width": 64, "heads": 1}, quick_gelu=True)
    config = made["config"]
    model = build(config, 77)
    unsettle(model)
    half = copy.deepcopy(model)
    for tensor in [*half.parameters(), *half.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()
    image = torch.randn(1, 3, 32, 32)
    text = captions(1, 8, 40, None)
    features = {"input/image": image, "input/text": text, "image_features": half.encode_image(image), "text_features": half.encode_text(text)}
    save_file({k: v.contiguous() for k, v in features.items()}, output / "openai.safetensors")
    archive = torch.jit.trace(Archive(half, config).eval(), image[:1], check_trace=False)
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        archive.half().save(file.name)
        # Line numbers for debugging are the larger part of a small archive.
        with zipfile.ZipFile(file.name) as full, zipfile.ZipFile(output / "openai.pt", "w") as small:
            for member in full.infolist():
                if not member.filename.endswith(".debug_pkl"):
                    small.writestr(zipfile.ZipInfo(member.filename), full.read(member), member.compress_type)
    (output / "openai_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DATA)
    parser.add_argument("--fuzz", type=int, nargs=2, metavar=("SEED", "COUNT"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.fuzz:
        first, number = args.fuzz
        for seed in range(first, first + number):
            print(export(f"random_{seed}", random_case(seed), seed, args.output, False))
        return
    for i, (name, made) in enumerate(CASES.items()):
        print(export(name, made, 4000 + i, args.output, True))
    names = [n for n in open_clip.list_models() if n.startswith("RN")]
    family.export_parameters(sorted(names), args.output)
    export_openai(args.output)


if __name__ == "__main__":
    main()
