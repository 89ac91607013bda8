#!/usr/bin/env python3
"""Small random models of upstream OpenCLIP with their features, loss and gradients.

One <case>.safetensors and one <case>.json per case under data/models/. Tensors of a case:
  weights/<key>                  f32, every entry of the state dict under OpenCLIP's key
  input/image                    f32 [B, 3, H, W], already normalised
  input/text                     i64 [B, context]
  output/image_features          f32 [B, embed], not normalised
  output/text_features           f32 [B, embed], not normalised
  output/image_features_norm, output/text_features_norm     the same with unit length
  output/logits_per_image        f32 [B, B], `get_logits`: exp(logit_scale)·I·Tᵀ (+ logit_bias)
  output/loss                    f32 [], `ClipLoss` on the model's output
  grad/<key>                     f32, gradient of that loss for every trainable parameter

The model is in eval mode. Needs `pip install open_clip_torch==3.3.0`.

`--fuzz SEED COUNT --output DIR` makes models of random valid configurations instead. The ignored test `random_models` compares them:

  export_models.py --fuzz 1 60 --output DIR
  OPENCLIP_PARITY_DIR=DIR cargo test --release -p openclip-tests --test models -- --ignored

`bf16.safetensors` holds features of a few cases in the precisions `pure_bf16` and `amp_bf16`: <case>/<precision>/{image,text}_features.
"""

import argparse
import copy
import json
import math
import random
import tempfile
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file, save_file

DATA = Path(__file__).resolve().parent / "data/models"

VISION = {"image_size": 18, "patch_size": 6, "width": 20, "head_width": 10, "layers": 2}
TEXT = {"context_length": 12, "vocab_size": 64, "width": 16, "heads": 4, "layers": 2}


def case(vision: dict | None = None, text: dict | None = None, batch: int = 4, **top) -> dict:
    """A model configuration and its batch size; the tower that a case does not touch has one block, to keep files small."""
    vision_cfg = {**VISION, "layers": 1 if text and not vision else 2, **(vision or {})}
    text_cfg = {**TEXT, "layers": 1 if vision and not text else 2, **(text or {})}
    return {"config": {"embed_dim": 12, **top, "vision_cfg": vision_cfg, "text_cfg": text_cfg}, "batch": batch}


CLIPA_VISION = {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}
CLIPA_TEXT = {"context_length": 8, "vocab_size": 80, "pool_type": "last", "no_causal_mask": True}
EPS = {"norm_kwargs": {"eps": 1e-3}}
TANH = {"act_kwargs": {"approximate": "tanh"}}

CASES = {
    "vit_plain": case(),
    "vit_quickgelu": case(quick_gelu=True),
    "vit_clipa": case(CLIPA_VISION, CLIPA_TEXT),
    "vit_avg_pool": case({"pool_type": "avg"}),
    "vit_tok_ln_after_pool": case({"final_ln_after_pool": True}),
    "vit_no_ln_pre": case({"no_ln_pre": True}),
    "vit_layer_scale": case({"ls_init_value": 1e-4}, {"ls_init_value": 1e-4}),
    "vit_rect_image": case({"image_size": [18, 30]}),
    "vit_odd_image": case({"image_size": 22}),
    "vit_rect_odd_image": case({"image_size": [31, 17], "patch_size": 5}),
    "vit_patch_14": case({"image_size": 28, "patch_size": 14, "width": 16, "head_width": 8, "layers": 1}, batch=3),
    "vit_one_head": case({"width": 16, "head_width": 16}, {"heads": 1}),
    "vit_odd_heads": case({"width": 30, "head_width": 10, "layers": 1}, {"width": 18, "heads": 3}),
    "vit_head_width_floor": case({"width": 26, "head_width": 10, "layers": 1}),
    "vit_mlp_ratio": case({"mlp_ratio": 4.3637}, {"mlp_ratio": 2.55}),
    "vit_sin_cos": case({"pos_embed_type": "sin_cos_2d"}),
    "vit_patch_dropout": case({"patch_dropout": 0.5}),
    "vit_norm_eps": case(EPS, EPS),
    "vit_tanh_gelu": case(TANH, TANH),
    "text_proj_bias": case(text={"proj_bias": True}),
    "text_proj_none": case(text={"proj_type": "none", "width": 12, "heads": 3}),
    "text_pool_first": case(text={"pool_type": "first", "no_causal_mask": True}),
    "text_pool_last": case(text={"pool_type": "last"}),
    "text_pool_eos": case(text={"pool_type": "eos", "eos_id": 2}, custom_text=True),
    "text_no_causal_mask": case(text={"no_causal_mask": True}),
    "text_context_16": case(text={"context_length": 16, "vocab_size": 200, "layers": 3}),
    "custom_text": case(custom_text=True),
    "custom_text_proj_bias": case(text={"proj_bias": True}, custom_text=True, quick_gelu=True),
    "logit_bias": case(custom_text=True, init_logit_scale=math.log(10), init_logit_bias=-10),
    "logit_bias_root": case({"layers": 1}, {"layers": 1}, init_logit_bias=-10),
    "batch_1": case({"layers": 1}, {"layers": 1}, batch=1),
    "batch_9": case({"layers": 1}, {"layers": 1}, batch=9),
    "text_pool_eos_root": case({"layers": 1}, {"pool_type": "eos", "eos_id": 5}),
    "text_eos_bidirectional": case(
        {"layers": 1, "image_size": [12, 19]}, {"pool_type": "eos", "eos_id": 2, "no_causal_mask": True}, custom_text=True
    ),
    "text_wide_of_image": case({"width": 8, "head_width": 4, "layers": 1}, {"width": 24, "heads": 6, "layers": 1}),
    "one_patch": case({"image_size": 6, "layers": 1}, {"layers": 1}),
}

# Cases whose features are exported in bf16 as well.
BF16 = ("vit_plain", "vit_quickgelu", "vit_clipa", "vit_layer_scale", "custom_text_proj_bias")


def random_case(seed: int) -> dict:
    """A configuration that upstream accepts, with every option of both native towers in play."""
    draw = random.Random(seed)
    chance = lambda share: draw.random() < share

    def width_of_heads(limit: int) -> tuple[int, int]:
        heads = draw.randint(1, 5)
        return heads, heads * draw.randint(2, max(2, limit // heads))

    def shared(tower: dict, quick_gelu: bool) -> dict:
        if chance(0.3):
            tower["mlp_ratio"] = draw.choice([0.5, 1.0, 2.55, 3.7, 4.3637, 4.9231, 8.5715])
        if chance(0.25):
            tower["ls_init_value"] = draw.choice([1e-5, 1e-4, 0.1, 1.0])
        if chance(0.3):
            tower["norm_kwargs"] = {"eps": draw.choice([1e-3, 1e-6, 1e-12])}
        if chance(0.3) and not quick_gelu:
            tower["act_kwargs"] = draw.choice([{"approximate": "tanh"}, {"approximate": "none"}, {}])
        return tower

    config = {"embed_dim": draw.randint(2, 24)}
    quick_gelu = chance(0.4)
    if quick_gelu or chance(0.2):
        config["quick_gelu"] = quick_gelu

    patch = draw.choice([1, 2, 3, 4, 5, 7, 8, 14])
    side = lambda: patch * draw.randint(1, 4) + draw.randint(0, patch - 1)
    heads, width = width_of_heads(40)
    # `width // head_width` heads: a head width that does not divide the width is rounded.
    head_width = draw.choice([h for h in range(1, width + 1) if width // h == heads])
    vision = {"image_size": side(), "patch_size": patch, "width": width, "head_width": head_width}
    vision |= {"layers": draw.randint(1, 3)}
    if chance(0.5):
        vision["image_size"] = [vision["image_size"], side()]
    rows, columns = (n // patch for n in (vision["image_size"] if isinstance(vision["image_size"], list) else [vision["image_size"]] * 2))
    if rows == columns and width % 4 == 0 and chance(0.6):
        vision["pos_embed_type"] = "sin_cos_2d"
    for key, share in {"no_ln_pre": 0.3, "final_ln_after_pool": 0.4}.items():
        if chance(share):
            vision[key] = True
    if chance(0.5):
        vision["pool_type"] = draw.choice(["tok", "avg"])

    heads, width = width_of_heads(32)
    text = {"context_length": draw.randint(6, 24), "vocab_size": draw.randint(10, 300), "width": width, "heads": heads}
    text |= {"layers": draw.randint(1, 3)}
    if chance(0.7):
        text["pool_type"] = draw.choice(["argmax", "eos", "last", "first"])
    if text.get("pool_type") == "eos":
        text["eos_id"] = draw.choice([1, 2, draw.randint(3, text["vocab_size"] - 1)])
    if chance(0.4) or text.get("pool_type") == "first":
        text["no_causal_mask"] = True
    if chance(0.25):
        text["proj_bias"] = True
    elif chance(0.25):
        config["embed_dim"] = width
        text["proj_type"] = "none"
    if chance(0.5):
        config["custom_text"] = True
    if chance(0.3):
        config["init_logit_scale"] = draw.uniform(0, math.log(100))
    if chance(0.3):
        config["init_logit_bias"] = draw.uniform(-12, 3)
    config |= {"vision_cfg": shared(vision, quick_gelu), "text_cfg": shared(text, quick_gelu)}
    return {"config": config, "batch": draw.choice([1, 2, 3, 5, 8, 13])}


def build(config: dict, seed: int) -> torch.nn.Module:
    """A model made by upstream's factory from its own JSON format, in eval mode, with every weight moved off its neutral value."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        name = f"parity-{seed}"
        (Path(folder) / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder)
        model = open_clip.create_model(name, output_dict=True)
    perturb(model)
    return model.eval()


@torch.no_grad()
def perturb(model: torch.nn.Module) -> None:
    """Scales near 1, biases off 0, LayerScale large enough to count: an ignored or swapped tensor shows in the output."""
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        leaf = name.rsplit(".", 1)[-1]
        if not parameter.requires_grad:
            continue
        if leaf == "gamma":
            parameter.copy_(0.4 + 0.2 * noise)
        elif ".ln_" in f".{name}" and leaf == "weight":
            parameter.copy_(1 + 0.2 * noise)
        elif leaf in ("bias", "in_proj_bias", "logit_scale", "logit_bias"):
            parameter.add_(0.1 * noise)
        elif leaf in ("positional_embedding", "class_embedding") or "token_embedding" in name:
            parameter.add_(0.2 * noise)


def captions(batch: int, context: int, vocab: int, eos_id: int | None) -> torch.Tensor:
    """Token ids [batch, context]: a short caption, a full row, a tie of the largest id, an empty caption, then random lengths.

    The largest id ends a caption; with an `eos_id` that id ends it instead, and the empty caption has none.
    """
    start, end = vocab - 2, vocab - 1 if eos_id is None else eos_id
    rows = torch.zeros(batch, context, dtype=torch.int64)
    for i in range(batch):
        words = torch.randint(3, vocab - 3, (context,))
        if i == 1:
            length = context - 2
        elif i == 3:
            length = 0
        else:
            length = int(torch.randint(1, context - 4, ()))
        row = [start, *words[:length].tolist(), end]
        if i == 2:
            row += [int(words[-1]), end]
        if i == 3 and eos_id is not None:
            row = row[:-1]
        rows[i, : len(row)] = torch.tensor(row)
    return rows


def evaluate(model: torch.nn.Module, image: torch.Tensor, text: torch.Tensor) -> tuple[dict, dict]:
    """Outputs and parameter gradients."""
    model.zero_grad()
    loss = open_clip.ClipLoss()(**model(image, text))
    loss.backward()
    with torch.no_grad():
        outputs = {
            "image_features": model.encode_image(image),
            "text_features": model.encode_text(text),
            "image_features_norm": model.encode_image(image, normalize=True),
            "text_features_norm": model.encode_text(text, normalize=True),
            "logits_per_image": model.get_logits(image, text)[0],
            "loss": loss.detach(),
        }
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    return outputs, gradients


def deviation(model, image, text, outputs, gradients) -> dict:
    """How far these f32 results are from the same computation in f64: the floor of any tolerance."""
    exact_outputs, exact_gradients = evaluate(copy.deepcopy(model).double(), image.double(), text)
    features = max(float((outputs[k] - exact_outputs[k]).abs().max()) for k in ("image_features", "text_features"))
    relative = [
        float((g - exact_gradients[n]).abs().max() / exact_gradients[n].abs().max())
        for n, g in gradients.items()
        if float(exact_gradients[n].abs().max()) > 1e-9
    ]
    return {"features_abs": features, "gradients_rel_to_tensor_max": max(relative, default=0.0)}


def inputs(model: torch.nn.Module, config: dict, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = model.visual.image_size
    text_cfg = config["text_cfg"]
    eos_id = text_cfg["eos_id"] if text_cfg.get("pool_type") == "eos" else None
    image = torch.randn(batch, 3, height, width)
    return image, captions(batch, text_cfg["context_length"], text_cfg["vocab_size"], eos_id)


def export(name: str, case: dict, seed: int, output: Path) -> str:
    config, batch = case["config"], case["batch"]
    model = build(config, seed)
    image, text = inputs(model, config, batch)
    outputs, gradients = evaluate(model, image, text)

    tensors = {f"weights/{k}": v for k, v in model.state_dict().items()}
    tensors |= {"input/image": image, "input/text": text}
    tensors |= {f"output/{k}": v for k, v in outputs.items()}
    tensors |= {f"grad/{k}": v for k, v in gradients.items()}
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, output / f"{name}.safetensors")

    # A gradient that is zero in exact arithmetic is only rounding noise: compare it by absolute value.
    vanishing = sorted(n for n, g in gradients.items() if float(g.abs().max()) < 1e-6)
    description = {
        "case": name,
        "model_cfg": config,
        "model_class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "frozen": [n for n, p in model.named_parameters() if not p.requires_grad],
        "vanishing_gradients": vanishing,
        "f32_against_f64": deviation(model, image, text, outputs, gradients),
        "batch": batch,
        "seed": seed,
        "torch": torch.__version__.split("+")[0],
        "open_clip": open_clip.__version__,
    }
    if "init_logit_bias" in config:
        description["logit_bias_in_loss"] = (
            "ClipLoss adds logit_bias to logits_per_image and logits_per_text; it shifts all entries alike, "
            "so the softmax loss does not depend on it and its gradient is zero up to rounding"
        )
    (output / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")
    size = (output / f"{name}.safetensors").stat().st_size
    noise = ", ".join(f"{v:.1e}" for v in description["f32_against_f64"].values())
    return f"{name:24} {size // 1000:4} kB  loss {float(outputs['loss']):.4f}  f32 against f64: {noise}"


@torch.no_grad()
def export_bf16(output: Path) -> None:
    """Features of the exported cases in half precision, from the weights and inputs in their files."""
    tensors = {}
    for i, name in enumerate(CASES):
        if name not in BF16:
            continue
        stored = load_file(output / f"{name}.safetensors")
        image, text = stored["input/image"], stored["input/text"]
        model = build(CASES[name]["config"], 1000 + i)
        model.load_state_dict({k.removeprefix("weights/"): v for k, v in stored.items() if k.startswith("weights/")})
        with torch.autocast("cpu", torch.bfloat16):
            tensors[f"{name}/amp_bf16/image_features"] = model.encode_image(image).float()
            tensors[f"{name}/amp_bf16/text_features"] = model.encode_text(text).float()
        # What `--precision pure_bf16` does in `open_clip.factory`.
        model.to(torch.bfloat16)
        tensors[f"{name}/pure_bf16/image_features"] = model.encode_image(image.bfloat16()).float()
        tensors[f"{name}/pure_bf16/text_features"] = model.encode_text(text).float()
    save_file({k: v.contiguous() for k, v in tensors.items()}, output.parent / "bf16.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DATA)
    parser.add_argument("--case", action="append", choices=CASES, help="only these cases")
    parser.add_argument("--fuzz", type=int, nargs=2, metavar=("SEED", "COUNT"), help="random models instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.fuzz:
        first, count = args.fuzz
        for seed in range(first, first + count):
            print(export(f"random_{seed}", random_case(seed), seed, args.output))
        return
    for i, name in enumerate(CASES):
        if not args.case or name in args.case:
            print(export(name, CASES[name], 1000 + i, args.output))
    if not args.case:
        export_bf16(args.output)


if __name__ == "__main__":
    main()
