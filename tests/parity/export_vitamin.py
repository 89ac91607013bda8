#!/usr/bin/env python3
"""Small random ViTamin models of upstream OpenCLIP, and what belongs to that family. `family.py` describes the files under
data/vitamin/ and the options.

Needs `pip install open_clip_torch==3.3.0`.
"""

import random

import family
from timm.models.vitamin import VitCfg

STAGES = {"stem_width": 4, "embed_dim": [4, 6, 8], "depths": [1, 2, 1]}
TRUNK = {"embed_dim": 8, "depth": 1, "num_heads": 2}
TEXT = {"context_length": 8, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1}


def case(name="vitamin_small_224", vision=None, text=None, trunk=None, stages=None, batch=2, embed_dim=8, **top):
    vision_cfg = {
        "image_size": 32, "timm_model_name": name, "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
        "timm_drop": 0.0, "timm_drop_path": 0.1, **(vision or {}),
    }  # fmt: skip
    vision_cfg["timm_kwargs"] = {**TRUNK, **(trunk or {}), "embed_cfg": {**STAGES, **(stages or {})}}
    config = {"embed_dim": embed_dim, "custom_text": True, **top}
    return {"config": {**config, "vision_cfg": vision_cfg, "text_cfg": {**TEXT, **(text or {})}}, "batch": batch}


CASES = {
    "linear": case(trunk={"depth": 2}, batch=4),
    "odd_image": case("vitamin_base_224", {"image_size": [51, 37]}, stages={"depths": [2, 1, 1]}),
    # Channels that the first stage changes, and a width between the pointwise convolutions that is rounded up.
    "channels": case(
        "vitamin_large_336", {"image_size": 33}, trunk={"mlp_ratio": 2.6}, stages={"stem_width": 3, "embed_dim": [5, 5, 8]}
    ),
    "no_positions": case("vitamin_xlarge_384", {"image_size": [19, 50], "timm_proj": "mlp"}, trunk={"num_heads": 4}),
    "classifier": case("vitamin_large2_256", {"timm_proj": None, "timm_pool": "avg", "timm_drop_path": None}, embed_dim=10),
    "no_map": case(vision={"timm_proj": "none", "timm_pool": "avg", "image_size": 17}, custom_text=False, quick_gelu=True),
}


class Vitamin(family.Timm):
    def arguments(self, vision, kwargs):
        stages = {k: tuple(v) if isinstance(v, list) else v for k, v in kwargs["embed_cfg"].items()}
        return {**super().arguments(vision, kwargs), "embed_cfg": VitCfg(**stages)}

    def unsettle(self, model, config):
        family.perturb(model.visual, ("bias", "pos_embed"))


def random_case(seed: int) -> dict:
    draw = random.Random(seed)
    pick = draw.choice
    heads = draw.randint(1, 4)
    width = heads * draw.randint(2, 8)
    stages = {
        "stem_width": draw.randint(3, 12),
        "embed_dim": [draw.randint(3, 16), draw.randint(3, 16), width],
        "depths": [draw.randint(1, 3), draw.randint(1, 3), draw.randint(0, 3)],
    }
    if pick([True, False]):
        stages["embed_dim"][0] = stages["stem_width"]
    trunk = {"embed_dim": width, "depth": draw.randint(1, 4), "num_heads": heads, "mlp_ratio": pick([2.0, 2.0, 1.3, 3.7])}
    if pick([True, False]):
        trunk["pos_embed"] = pick(["none", "learn"])
    proj = pick(["linear", "linear", "mlp", "none", None])
    vision = {
        "image_size": [draw.randint(1, 70), draw.randint(1, 70)],
        "timm_proj": proj,
        "timm_pool": pick(["", "avg"]) if proj in ("linear", "mlp") else "avg",
        "timm_drop_path": pick([None, 0.0, 0.1, 0.5]),
    }
    if proj in ("linear", "mlp") and pick([True, False]):
        vision["timm_proj_bias"] = True
    text_heads = draw.randint(1, 3)
    text = {"width": text_heads * draw.randint(4, 8), "heads": text_heads, "context_length": draw.randint(6, 12)}
    name = pick(["small_224", "base_224", "large_224", "large_336", "large2_384", "xlarge_256", "xlarge_384"])
    embed_dim = width if proj == "none" else draw.randint(3, 20)
    return case(
        f"vitamin_{name}", vision, text, trunk, stages, draw.randint(2, 6), embed_dim, custom_text=pick([True, False])
    )


WIDE = {"stem_width": 16, "embed_dim": [16, 24, 32], "depths": [1, 2, 1]}
INIT = {
    "linear": case(trunk={"embed_dim": 32}, stages=WIDE, embed_dim=24),
    "mlp": case(
        "vitamin_xlarge_256",
        {"timm_proj": "mlp", "timm_proj_bias": True},
        trunk={"embed_dim": 32},
        stages={**WIDE, "stem_width": 8},
        embed_dim=40,
    ),
    "classifier": case(vision={"timm_proj": None, "timm_pool": "avg"}, trunk={"embed_dim": 32}, stages=WIDE, embed_dim=20),
}
FAMILY = Vitamin("vitamin", 9000, CASES, INIT, ["ViTamin*"])


def others(output):
    FAMILY.export_sizes({"no_positions": [(16, 16), (41, 7), (49, 33)]}, output)
    FAMILY.export_resized({"linear": [(40, 40), (49, 20), (16, 16)]}, output)
    FAMILY.export_drop_path([("vitamin_small_224", 0.1), ("vitamin_xlarge_256", 0.3)], output)


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, others)
