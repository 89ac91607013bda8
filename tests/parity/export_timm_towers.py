#!/usr/bin/env python3
"""Small random models of upstream OpenCLIP with the three timm towers that have one configuration each: `vit_medium_patch16_gap_256`,
`vit_relpos_medium_patch16_cls_224` and `swin_base_patch4_window7_224`.

`family.py` describes the files under data/timm_towers/ and the options. The loss of the towers with relative positions is that of
training mode with the dropout masks that `vision/relpos.rs` draws for the seed 0. A trunk with another `img_size` under `timm_kwargs`
than the configuration's `image_size` is brought to the latter by `set_input_size`.

Needs `pip install open_clip_torch==3.3.0`.
"""

import functools
import random
from contextlib import contextmanager, nullcontext
from unittest import mock

import family
import noise
import torch
import upstream
from open_clip.utils import to_2tuple

GAP, RELPOS, SWIN = "vit_medium_patch16_gap_256", "vit_relpos_medium_patch16_cls_224", "swin_base_patch4_window7_224"
TRUNK = {
    GAP: {"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2},
    RELPOS: {"patch_size": 5, "embed_dim": 8, "depth": 1, "num_heads": 2, "rel_pos_dim": 6},
    SWIN: {"img_size": 32, "patch_size": 2, "embed_dim": 2, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 3, "mlp_ratio": 2.0},
}
TEXT = {"context_length": 8, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1}


def case(name, vision=None, text=None, trunk=None, batch=2, embed_dim=8, **top):
    vision_cfg = {
        "image_size": 32 if name == SWIN else 17,
        "timm_model_name": name, "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear", "timm_drop_path": None,
        **(vision or {}),
    }  # fmt: skip
    vision_cfg["timm_kwargs"] = {**TRUNK[name], **(trunk or {})}
    return {"config": {"embed_dim": embed_dim, **top, "vision_cfg": vision_cfg, "text_cfg": {**TEXT, **(text or {})}}, "batch": batch}


CASES = {
    "gap": case(GAP, trunk={"depth": 2}, batch=4),
    "gap_classifier": case(GAP, {"timm_pool": "avg", "timm_proj": None, "image_size": [9, 22]}, embed_dim=10, custom_text=True),
    "relpos": case(RELPOS, {"timm_drop_path": 0.2, "image_size": [23, 31]}, trunk={"depth": 2}, batch=3),
    "relpos_avg": case(RELPOS, {"timm_pool": "avg", "timm_proj": "mlp"}, trunk={"qkv_bias": True}, custom_text=True),
    "relpos_no_class": case(
        RELPOS,
        {"timm_proj": "none", "timm_pool": "avg"},
        trunk={"class_token": False, "global_pool": "avg", "fc_norm": True, "init_values": 0.3, "embed_dim": 9, "num_heads": 3},
        embed_dim=9,
    ),
    "swin": case(SWIN, trunk={"embed_dim": 3, "num_heads": [1, 2, 3, 4], "depths": [2, 2, 1, 1], "mlp_ratio": 2.5}),
    "swin_odd": case(
        SWIN,
        {"image_size": [37, 50], "timm_proj": None, "timm_pool": "avg", "timm_drop_path": 0.0},
        trunk={"img_size": [37, 50], "window_size": 4, "depths": [1, 2, 2, 1]},
        custom_text=True,
    ),
    # Windows that cover the map along one axis only, and no bias.
    "swin_flat": case(
        SWIN, {"image_size": [6, 44], "timm_proj": "mlp"}, trunk={"img_size": [6, 44], "qkv_bias": False, "mlp_ratio": 2.3, "window_size": 4}
    ),
    # Windows of 2 for 16 pixels become 4 and 5 of these maps.
    "swin_larger": case(SWIN, {"image_size": [32, 40]}, trunk={"img_size": 16, "window_size": 2, "depths": [2, 1, 1, 1]}),
}


@contextmanager
def score_dropout(model):
    """Training mode for the scores of displacements alone, whose MLP has the only dropout; block by block."""
    blocks = iter(range(len(model.visual.trunk.blocks)))

    def dropout(x, p=0.5, training=True, inplace=False):
        if not training or p == 0:
            return x
        return noise.Noise(noise.mix(0, 3 * next(blocks) + 2)).dropout(x, p)

    scores = [block.attn.rel_pos.train() for block in model.visual.trunk.blocks]
    with mock.patch.object(torch.nn.functional, "dropout", dropout):
        yield
    for module in scores:
        module.eval()


class Towers(family.Timm):
    def arguments(self, vision, kwargs):
        kwargs = super().arguments(vision, kwargs)
        return {k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()}

    def unsettle(self, model, config):
        model.visual.set_input_size(to_2tuple(config["vision_cfg"]["image_size"]))

        def drawn(name, parameter, noise):
            return noise if name.endswith("relative_position_bias_table") else family.redrawn(parameter, noise)

        family.perturb(model.visual, ("bias", "pos_embed", "cls_token"), weights=drawn)

    def evaluate(self, model, image, text):
        relative = hasattr(model.visual.trunk, "blocks") and hasattr(model.visual.trunk.blocks[0].attn, "rel_pos")
        mode = functools.partial(score_dropout, model) if relative else nullcontext
        return upstream.evaluate(model, image, text, mode)


def random_case(seed: int) -> dict:
    draw = random.Random(seed)
    pick = draw.choice
    name = pick([GAP, RELPOS, SWIN, SWIN])
    heads = draw.randint(1, 3)
    width = heads * draw.randint(2, 7)
    trunk = {"mlp_ratio": pick([4.0, 1.7]), "qkv_bias": pick([True, False])}
    size = [draw.randint(9, 40), draw.randint(9, 40)]
    pool = "avg"
    if name == SWIN:
        patch = draw.randint(1, 4)
        size = [draw.randint(patch, 56), draw.randint(patch, 56)]
        trunk |= {"patch_size": patch, "embed_dim": width, "depths": [draw.randint(1, 3) for _ in range(4)]}
        trunk |= {"num_heads": [heads * pick([1, 2**stage]) for stage in range(4)], "window_size": draw.randint(1, 7)}
        trunk["img_size"] = size if draw.random() < 0.6 else [draw.randint(patch, 50), draw.randint(patch, 50)]
        width *= 8
    else:
        trunk |= {"patch_size": draw.randint(2, 9), "embed_dim": width, "num_heads": heads, "depth": draw.randint(1, 3)}
        if pick([True, False]):
            trunk["init_values"] = 0.1
    if name == RELPOS:
        trunk |= {"rel_pos_dim": draw.randint(1, 9), "fc_norm": pick([True, False]), "class_token": pick([True, False])}
        pool = pick(["avg", "token"]) if trunk["class_token"] else "avg"
        trunk["global_pool"] = pool
    proj = pick(["linear", "linear", "mlp", "none", None])
    vision = {"image_size": size, "timm_proj": proj, "timm_pool": pick(["", pool]) if proj in ("linear", "mlp") else pool}
    if name != GAP:
        vision["timm_drop_path"] = pick([None, 0.0, 0.3])
    if proj in ("linear", "mlp") and pick([True, False]):
        vision["timm_proj_bias"] = True
    text_heads = draw.randint(1, 3)
    text = {"width": text_heads * draw.randint(4, 8), "heads": text_heads, "context_length": draw.randint(6, 12)}
    embed_dim = width if proj == "none" else draw.randint(3, 20)
    return case(name, vision, text, trunk, draw.randint(2, 6), embed_dim, custom_text=pick([True, False]))


WIDE = {"embed_dim": 32, "num_heads": 4}
INIT = {
    "gap": case(GAP, trunk=WIDE, embed_dim=24),
    "relpos": case(RELPOS, {"timm_proj_bias": True}, trunk={**WIDE, "rel_pos_dim": 20, "qkv_bias": True}, embed_dim=24),
    "relpos_mlp": case(RELPOS, {"timm_proj": "mlp", "timm_proj_bias": True}, trunk={**WIDE, "mlp_ratio": 2.0, "init_values": 0.1}, embed_dim=40),
    "swin": case(SWIN, trunk={"embed_dim": 8, "window_size": 4}, embed_dim=24),
    "swin_classifier": case(SWIN, {"timm_proj": None, "timm_pool": "avg"}, trunk={"embed_dim": 8}, embed_dim=24),
}
FAMILY = Towers("timm_towers", 10100, CASES, INIT, [GAP, RELPOS, SWIN])


def others(output):
    FAMILY.export_sizes({"relpos_avg": [(5, 5), (32, 11)]}, output, fit=True)
    tables = [f"visual.trunk.layers.{place}.attn.relative_position_bias_table" for place in ("0.blocks.1", "2.blocks.0")]
    FAMILY.export_resized({"swin": [(64, 64), (48, 40), (20, 22)]}, output, tables)
    FAMILY.export_drop_path([(SWIN, None), (RELPOS, None), (RELPOS, 0.2)], output)


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, others)
