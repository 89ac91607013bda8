#!/usr/bin/env python3
"""Small random models of upstream OpenCLIP with its own two towers. `family.py` describes the files under data/models/ and the options,
but for
  <case>.safetensors              in addition
      output/logits_per_image     f32 [B, B], `get_logits`: exp(logit_scale)·I·Tᵀ (+ logit_bias)
  ../bf16.safetensors             features of a few cases in the precisions `pure_bf16` and `amp_bf16`:
                                  <case>/<precision>/{image,text}_features

Needs `pip install open_clip_torch==3.3.0`.
"""

import math
import random

import family
import torch
from upstream import load, save

VISION = {"image_size": 12, "patch_size": 4, "width": 12, "head_width": 6, "layers": 2}
TEXT = {"context_length": 12, "vocab_size": 64, "width": 8, "heads": 2, "layers": 2}


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
    "vit_rect_image": case({"image_size": [12, 20]}),
    "vit_odd_image": case({"image_size": 15}),
    "vit_rect_odd_image": case({"image_size": [31, 17], "patch_size": 5}),
    "vit_patch_14": case({"image_size": 28, "patch_size": 14, "width": 8, "head_width": 4, "layers": 1}, batch=3),
    "vit_one_head": case({"width": 8, "head_width": 8}, {"heads": 1}),
    "vit_odd_heads": case({"width": 18, "head_width": 6, "layers": 1}, {"width": 12, "heads": 3}),
    "vit_head_width_floor": case({"width": 14, "head_width": 6, "layers": 1}),
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
    "text_context_16": case(text={"context_length": 16, "vocab_size": 100, "layers": 3}),
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
    "text_wide_of_image": case({"width": 8, "head_width": 4, "layers": 1}, {"width": 16, "heads": 4, "layers": 1}),
    "one_patch": case({"image_size": 4, "layers": 1}, {"layers": 1}),
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


class Native(family.Family):
    def evaluate(self, model, image, text):
        found = super().evaluate(model, image, text)
        with torch.no_grad():
            return {**found, "output/logits_per_image": model.get_logits(image, text)[0]}


FAMILY = Native("models", 1000, CASES)


@torch.no_grad()
def export_bf16(output) -> None:
    """From the weights and inputs of the written cases."""
    tensors = {}
    for name in BF16:
        case = load(output / f"{name}.safetensors")
        image, text = case["input/image"], case["input/text"]
        model = FAMILY.stored(name, output)
        with torch.autocast("cpu", torch.bfloat16):
            tensors[f"{name}/amp_bf16/image_features"] = model.encode_image(image).float()
            tensors[f"{name}/amp_bf16/text_features"] = model.encode_text(text).float()
        # What `--precision pure_bf16` does in `open_clip.factory`.
        model.to(torch.bfloat16)
        tensors[f"{name}/pure_bf16/image_features"] = model.encode_image(image.bfloat16()).float()
        tensors[f"{name}/pure_bf16/text_features"] = model.encode_text(text).float()
    save(tensors, output.parent / "bf16.safetensors")


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, export_bf16)
