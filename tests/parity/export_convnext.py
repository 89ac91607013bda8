#!/usr/bin/env python3
"""Small random ConvNeXt models of upstream OpenCLIP, and what belongs to that family. `family.py` describes the files under
data/convnext/ and the options.

Needs `pip install open_clip_torch==3.3.0`.
"""

import random

import family

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


class ConvNext(family.Timm):
    def arguments(self, vision, kwargs):
        return kwargs


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


WIDE = {"depths": [1, 1, 1, 1], "dims": [16, 24, 32, 48]}
INIT = {
    "linear": case(trunk=WIDE, embed_dim=32),
    "mlp": case(vision={"timm_proj": "mlp", "timm_proj_bias": True}, trunk=WIDE, embed_dim=40),
    "classifier": case(vision={"timm_proj": None, "timm_pool": "avg"}, trunk={**WIDE, "ls_init_value": 0.5}, embed_dim=24),
}


FAMILY = ConvNext("convnext", 4000, CASES, INIT, ["convnext*"])


def others(output):
    FAMILY.export_sizes({"linear": [(39, 63)]}, output)
    FAMILY.export_drop_path([("convnext_tiny", 0.1), ("convnext_xxlarge", 0.1), ("convnext_base", 0.35)], output)


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, others)
