#!/usr/bin/env python3
"""Small random EVA-CLIP and Perception Encoder models of upstream OpenCLIP, and what belongs to that family. `family.py` describes the
files under data/eva/ and the options, but for
  training.safetensors               models of TRAINING in training mode: <case>/features, and <case>/grad/<key> of their squares' sum
  training_draws.json                TRAINING

Needs `pip install open_clip_torch==3.3.0`.
"""

import copy
import functools
import json
import random

import family
import timm
import torch
import upstream

TRUNK = {"patch_size": 5, "embed_dim": 8, "depth": 1, "num_heads": 2}
TEXT = {"context_length": 8, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1}
EVA01, EVA02, EVA02_E = "eva_giant_patch14_224", "eva02_base_patch16_clip_224", "eva02_enormous_patch14_clip_224"
PE, PE_G = "vit_pe_core_base_patch16_224", "vit_pe_core_gigantic_patch14_448"


def case(name=EVA02, vision=None, text=None, trunk=None, batch=3, embed_dim=12, **top):
    kwargs = {**TRUNK, **(trunk or {})}
    vision_cfg = {"image_size": 17, "timm_model_name": name, "timm_pool": "token", "timm_proj": None, **(vision or {})}
    vision_cfg["timm_kwargs"] = kwargs
    config = {"embed_dim": embed_dim, "custom_text": True, **top}
    return {"config": {**config, "vision_cfg": vision_cfg, "text_cfg": {**TEXT, **(text or {})}}, "batch": batch}


CASES = {
    "eva02": case(vision={"image_size": [21, 34]}, trunk={"embed_dim": 16}, batch=2),
    "eva02_pooled": case(
        vision={"timm_pool": "avg", "timm_drop_path": 0.2}, trunk={"ref_feat_shape": [5, 3], "no_embed_class": True}, embed_dim=6
    ),
    "eva02_map": case("eva02_large_patch14_clip_336", {"timm_pool": "map", "timm_proj": "none"}, embed_dim=8, quick_gelu=True),
    "enormous": case(EVA02_E, {"image_size": 21}, trunk={"depth": 2, "num_heads": 1, "mlp_ratio": 3.7}),
    "giant": case(EVA01, {"image_size": [19, 11]}, trunk={"depth": 2, "num_heads": 4}, batch=4),
    "giant_linear": case(
        EVA01, {"timm_pool": "token", "timm_proj": "linear"}, trunk={"use_rot_pos_emb": True, "qkv_bias": False}, embed_dim=7
    ),
    "perception": case(PE, {"image_size": [23, 31], "timm_pool": "map"}, trunk={"depth": 2, "num_heads": 1, "attn_pool_num_heads": 4}),
    "perception_mlp": case(
        PE,
        {"timm_pool": "avg", "timm_proj": "mlp", "timm_proj_bias": True},
        trunk={"qkv_fused": False, "rope_temperature": 100.0, "norm_eps": 1e-3, "use_fc_norm": True},
        embed_dim=6,
    ),
    "gigantic": case(PE_G, {"timm_pool": "map"}, trunk={"mlp_ratio": 2.9, "attn_pool_num_heads": 2}, init_logit_bias=-10),
}

# Training: the case's model with these shares of dropped patches and, in its last block, of dropped branches. `kept` are the
# patches of each picture and `kept_branches` the samples that keep them, of attention and MLP in every block, as this project
# draws them for the seed; `tests/tests/parity/eva.rs` asserts that it still does.
TRAINING = {
    "perception": {
        "seed": 3,
        "patch_dropout": 0.4,
        "timm_drop_path": 0.5,
        "kept": [
            [15, 3, 23, 10, 6, 8, 18, 14, 17, 12, 9, 16, 11, 1],
            [23, 15, 2, 13, 10, 0, 1, 6, 7, 17, 5, 4, 3, 11],
            [19, 4, 13, 15, 3, 0, 10, 18, 2, 22, 23, 1, 5, 12],
        ],
        "kept_branches": [[[0, 1, 2], [0, 1, 2]], [[], [0, 2]]],
    },
    "gigantic": {
        "seed": 8,
        "patch_dropout": 0.6,
        "timm_drop_path": 0.0,
        "kept": [[4, 2, 8], [5, 4, 8], [4, 3, 6]],
        "kept_branches": [[[0, 1, 2], [0, 1, 2]]],
    },
}


class Eva(family.Timm):
    def arguments(self, vision, kwargs):
        kwargs = super().arguments(vision, kwargs)
        if "norm_eps" in kwargs:
            kwargs["norm_layer"] = functools.partial(timm.layers.LayerNorm, eps=kwargs.pop("norm_eps"))
        return kwargs

    def unsettle(self, model, config):
        moved = lambda name, parameter, noise: parameter + family.redrawn(parameter, noise)
        family.perturb(model.visual, ("bias", "pos_embed", "cls_token", "latent"), weights=moved)


def random_case(seed: int) -> dict:
    draw = random.Random(seed)
    pick = draw.choice
    heads = draw.randint(1, 4)
    name = pick([EVA01, EVA02, EVA02, "eva02_large_patch14_clip_336", EVA02_E, PE, PE, "vit_pe_core_tiny_patch16_384", PE_G])
    width = heads * 4 * draw.randint(1, 4)
    trunk = {"patch_size": draw.randint(3, 9), "embed_dim": width, "depth": draw.randint(1, 3), "num_heads": heads}
    trunk["attn_pool_num_heads"] = pick([heads, 1, 2, 4])
    if pick([True, False]):
        trunk["mlp_ratio"] = draw.uniform(1, 5)
    if pick([True, False]):
        trunk["qkv_bias"] = pick([True, False])
        trunk["qkv_fused"] = pick([True, False])
    if pick([True, False]):
        trunk["swiglu_mlp"] = trunk["scale_mlp"] = pick([True, False])
        trunk["scale_attn_inner"] = pick([True, False])
    if pick([True, False]):
        trunk |= {"use_rot_pos_emb": True, "rope_grid_indexing": pick(["ij", "xy"]), "rope_grid_offset": pick([0.0, 1.0, 0.5])}
        trunk |= {"rope_temperature": pick([100.0, 10000.0]), "ref_feat_shape": pick([None, [16, 16], [3, 5]])}
    if pick([True, False]):
        trunk |= {"use_post_norm": pick([True, False]), "use_pre_transformer_norm": pick([True, False])}
    if draw.random() < 0.3:
        trunk["norm_eps"] = pick([1e-3, 1e-5])
    proj = pick(["linear", "mlp", "none", None, None])
    pool = pick(["token", "map", "avg"])
    if proj in ("linear", "mlp"):
        trunk["global_pool"] = "map" if pool == "map" else pick(["map", "avg", "token"])
    trunk["class_token"] = pool == "token" or trunk.get("global_pool") == "token" or pick([True, True, False])
    trunk["no_embed_class"] = pick([True, False, False])
    vision = {"timm_pool": pool, "timm_proj": proj, "image_size": [draw.randint(9, 40), draw.randint(9, 40)]}
    if proj in ("linear", "mlp"):
        vision["timm_proj_bias"] = pick([True, False])
        if draw.random() < 0.2:
            vision["timm_pool"] = ""
    if draw.random() < 0.3:
        vision["timm_drop_path"] = draw.uniform(0, 0.5)
    text_heads = draw.randint(1, 3)
    text = {"width": text_heads * draw.randint(2, 8), "heads": text_heads, "context_length": draw.randint(6, 16)}
    text |= {"layers": draw.randint(1, 2), "vocab_size": draw.randint(20, 60)}
    embed_dim = width if proj == "none" else draw.randint(3, 24)
    top = {"quick_gelu": True} if pick([True, False]) else {}
    return case(name, vision, text, trunk, draw.randint(1, 6), embed_dim, **top)


def draw(trunk: torch.nn.Module, draws: dict, share: float):
    """Puts the given draws in the place of timm's."""
    kept = torch.tensor(draws["kept"])
    batch, prefix = kept.shape[0], trunk.num_prefix_tokens

    def keep(x):
        rows = torch.arange(batch)[:, None]
        return torch.cat([x[:, :prefix], x[:, prefix:][rows, kept]], 1), kept

    def branch(samples):
        return lambda x: x * torch.tensor([i in samples for i in range(batch)])[:, None, None] / (1 - share)

    trunk.patch_drop.forward = keep
    for block, branches in zip(trunk.blocks[1:], draws["kept_branches"][1:]):
        for module, samples in zip((block.drop_path1, block.drop_path2), branches):
            if share > 0:
                assert isinstance(module, timm.layers.DropPath)
                module.forward = branch(samples)


def export_training(output):
    tensors = {}
    for name, draws in TRAINING.items():
        config = copy.deepcopy(CASES[name]["config"])
        config["vision_cfg"] |= {k: draws[k] for k in ("patch_dropout", "timm_drop_path")}
        model = FAMILY.build(config, 7).train()
        model.load_state_dict(upstream.stored_weights(output / f"{name}.safetensors"))
        draw(model.visual.trunk, draws, draws["timm_drop_path"])
        case = upstream.load(output / f"{name}.safetensors")
        features = model.encode_image(case["input/image"])
        features.square().sum().backward()
        tensors |= upstream.prefixed(name, {"features": features, **upstream.gradients(model)})
    upstream.save(tensors, output / "training.safetensors")
    (output / "training_draws.json").write_text(json.dumps(TRAINING) + "\n")


WIDE = {"embed_dim": 48, "depth": 2, "num_heads": 4, "attn_pool_num_heads": 4}
INIT = {
    "eva02": case(trunk=WIDE, vision={"image_size": 48}, embed_dim=32),
    "giant": case(EVA01, trunk={**WIDE, "patch_size": 7}, vision={"timm_proj": "mlp", "timm_proj_bias": True}, embed_dim=40),
    "perception": case(PE, {"timm_pool": "map"}, trunk=WIDE, embed_dim=32),
}
FAMILY = Eva("eva", 6000, CASES, INIT, ["EVA*", "PE-Core*"])


def others(output):
    FAMILY.export_resized({"eva02_map": [(10, 15), (33, 26)], "eva02_pooled": [(31, 23)], "gigantic": [(26, 26)]}, output)
    export_training(output)


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, others)
