#!/usr/bin/env python3
"""Small random MobileCLIP models of upstream OpenCLIP, and what belongs to that family. `family.py` and, of some cases, `batch_norm.py`
describe the files under data/mobileclip/ and the options, but for
  apple_<case>.safetensors           the same weights under the keys of Apple's own checkpoints, which upstream's
                                     `convert_state_dict` turns into the case's, but for a bias that is zero in them

Where timm takes layers, `timm_kwargs` has their names. Needs `pip install open_clip_torch==3.3.0`.
"""

import copy
import functools
import random
from contextlib import contextmanager
from unittest import mock

import batch_norm
import family
import torch
import upstream
from open_clip.convert import convert_state_dict
from timm.layers import LayerNorm2d
from timm.models import fastvit, vision_transformer_hybrid
from timm.utils import reparameterize_model

FOUR = {"layers": [1, 1, 0, 1], "embed_dims": [1, 2, 4, 32], "mlp_ratios": [3, 3, 3, 0.1]}
TWO = {"layers": [1, 1], "embed_dims": [2, 32], "mlp_ratios": [3, 0.1], "token_mixers": ["repmixer", "attention"],
       "downsamples": [False, True], "se_downsamples": [False, True], "pos_embs": [False, True]}  # fmt: skip
VIT = {"embed_dim": 8, "depth": 1, "num_heads": 2}
TEXT = {"context_length": 8, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1, "no_causal_mask": True}
LAYERS = {"batchnorm2d": torch.nn.BatchNorm2d, "layernorm2d": functools.partial(LayerNorm2d, eps=1e-5)}


def case(name, trunk, vision=None, text=None, batch=4, embed_dim=8, **top):
    vision_cfg = {
        "image_size": 64, "timm_model_name": name, "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": None,
        "timm_drop": 0.0, "timm_drop_path": 0.0, **(vision or {}), "timm_kwargs": trunk,
    }  # fmt: skip
    return {
        "config": {"embed_dim": embed_dim, "custom_text": True, **top, "vision_cfg": vision_cfg, "text_cfg": {**TEXT, **(text or {})}},
        "batch": batch,
    }


TOKEN = {"timm_pool": "token"}
CASES = {
    "mci0": case("fastvit_mci0", FOUR, {"image_size": [37, 26]}, batch=3),
    "mci3": case("fastvit_mci3", {**TWO, "pos_embs": [True, False]}, {"image_size": [13, 22]}, {"no_causal_mask": False}),
    "linear": case(
        "fastvit_mci1",
        {"layers": [0, 1], "embed_dims": [4, 4], "mlp_ratios": [1, 1.5], "token_mixers": ["repmixer"] * 2, "downsamples": [True, False],
         "se_downsamples": [False, True], "pos_embs": [True, False], "lkc_use_act": False},
        {"image_size": 21, "timm_proj": "linear", "timm_pool": ""},
        custom_text=False,
        quick_gelu=True,
    ),
    "mlp": case(
        "fastvit_mci2",
        {"layers": [2], "embed_dims": [3], "mlp_ratios": [2.5], "token_mixers": ["repmixer"], "downsamples": [True],
         "se_downsamples": [True], "pos_embs": [False], "stem_use_scale_branch": False},
        {"timm_proj": "mlp", "timm_proj_bias": True, "image_size": [12, 17]},
    ),  # fmt: skip
    "vit": case("vit_base_mci_224", VIT, {**TOKEN, "image_size": [23, 32]}, {"no_causal_mask": False}),
    "vit_large": case("vit_large_patch14_clip_224", {**VIT, "patch_size": 5}, {**TOKEN, "image_size": [17, 21]}),
}
# Of the committed cases, those with training mode.
TRAINED = ("mci0", "vit")


@torch.no_grad()
def folded(model, image) -> torch.Tensor:
    """Features after upstream's own joining of branches."""
    model = copy.deepcopy(model)
    model.visual.trunk = reparameterize_model(model.visual.trunk)
    return model.encode_image(image)


class MobileClip(family.Timm):
    def arguments(self, vision, kwargs):
        kwargs = dict(kwargs)
        if vision["timm_model_name"].startswith("vit_"):
            kwargs["img_size"] = vision["image_size"]
        if "norm_layer" in kwargs:
            kwargs["norm_layer"] = LAYERS[kwargs["norm_layer"]]
        if "pos_embs" in kwargs:
            kwargs["pos_embs"] = [fastvit.RepConditionalPosEnc if wanted else None for wanted in kwargs["pos_embs"]]
        return kwargs

    @contextmanager
    def trunk(self, config):
        stem, width = vision_transformer_hybrid.ConvStem, config["vision_cfg"]["timm_kwargs"].get("embed_dim", 0)
        smaller = lambda channels, **more: stem(channels=(width // 4, width // 4, width), **more)
        with mock.patch.object(vision_transformer_hybrid, "ConvStem", smaller), super().trunk(config) as plain:
            yield plain

    @torch.no_grad()
    def unsettle(self, model, config):
        """Branches that are large enough to count, too."""
        batch_norm.unsettle(model)
        for name, parameter in model.visual.named_parameters():
            noise = torch.randn_like(parameter)
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "gamma":
                parameter.copy_(0.5 + 0.2 * noise)
            elif leaf in ("pos_embed", "cls_token", "bias"):
                parameter.add_(0.2 * noise)
            elif parameter.ndim == 1:
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(family.redrawn(parameter, noise))

    def record(self, name, model, image, text):
        found, about = super().record(name, model, image, text)
        about["upstream_folded_abs"] = float((folded(model, image) - found["output/image_features"]).abs().max())
        if name in TRAINED or name not in CASES:
            trained, error = batch_norm.training(model, image, text)
            found, about = found | trained, about | error
        return found, about


def random_case(seed: int) -> dict:
    draw = random.Random(seed)
    pick = draw.choice
    vision = {"image_size": [draw.randint(33, 90), draw.randint(33, 90)], "timm_proj": pick(["linear", "mlp", None, None])}
    heads = draw.randint(1, 3)
    text = {"width": heads * draw.randint(4, 8), "heads": heads, "context_length": draw.randint(6, 12), "no_causal_mask": pick([True, False])}
    more = {"batch": draw.randint(4, 6), "embed_dim": draw.randint(3, 20), "custom_text": pick([True, False])}
    if seed % 4 == 0:
        heads = draw.randint(1, 3)
        trunk = {"embed_dim": 4 * heads * draw.randint(1, 4), "depth": draw.randint(1, 3), "num_heads": heads}
        name = pick(["vit_base_mci_224", "vit_large_patch14_clip_224"])
        if "large" in name:
            trunk["patch_size"] = draw.randint(3, 9)
        return case(name, trunk, vision | TOKEN, text, **more)
    stages = draw.randint(1, 4)
    mixers = [pick(["repmixer", "attention"]) for _ in range(stages)]
    dims = [draw.randint(1, 3)]
    for mixer in mixers:
        dims.append(dims[-1] * draw.randint(1, 3) if dims[-1] < 16 else dims[-1])
        if mixer == "attention":
            dims[-1] = dims[-1] * 32 if dims[-1] % 32 else dims[-1]
    trunk = {
        "layers": [draw.randint(1, 2) for _ in range(stages)],
        "embed_dims": dims[1:],
        "mlp_ratios": [pick([1, 1.5, 2, 3.4]) for _ in range(stages)],
        "token_mixers": mixers,
        "downsamples": [pick([True, False]) for _ in range(stages)],
        "se_downsamples": [pick([True, False]) for _ in range(stages)],
        "pos_embs": [pick([True, False]) for _ in range(stages)],
        "lkc_use_act": pick([True, False]),
        "stem_use_scale_branch": pick([True, False]),
        "norm_layer": pick(["batchnorm2d", "layernorm2d"]),
    }
    return case(f"fastvit_mci{draw.randint(0, 4)}", trunk, vision, text, **more)


def renamed(key: str, parts) -> str:
    for ours, theirs in parts:
        key = key.replace(ours, theirs)
    return key


def apple_text(key: str) -> str:
    key = key.removeprefix("text.").replace("transformer.resblocks.", "transformer.")
    parts = (
        ("text_projection", "projection_layer"), ("token_embedding", "embedding_layer"), ("ln_final", "final_layer_norm"),
        ("positional_embedding", "positional_embedding.pos_embed.pos_embed"),
        ("attn.in_proj_weight", "attn.qkv_proj.weight"), ("attn.in_proj_bias", "attn.qkv_proj.bias"),
        ("ln_1", "pre_norm_mha.0"), ("attn.", "pre_norm_mha.1."), ("ln_2", "pre_norm_ffn.0"),
        ("mlp.c_fc", "pre_norm_ffn.1"), ("mlp.c_proj", "pre_norm_ffn.4"),
    )  # fmt: skip
    return "text_encoder." + renamed(key, parts)


def apple_fastvit(key: str, trunk) -> str:
    """Apple's number of a layer counts the blocks, position encodings and downsamplings of all stages through."""
    numbers, at = {}, 0
    for i, stage in enumerate(trunk.stages):
        for part in ("downsample", "pos_emb", "blocks"):
            if not isinstance(getattr(stage, part), torch.nn.Identity):
                numbers[f"stages.{i}.{part}"] = at
                at += 1
    for place, number in numbers.items():
        if key.startswith(place + "."):
            rest = key.removeprefix(place + ".")
            key = f"network.{number}." + ("pe." + rest.removeprefix("pos_enc.") if "pos_emb" in place else rest)
    parts = (
        ("stem", "patch_embed"), ("conv_kxk", "rbr_conv"), ("conv_scale", "rbr_scale"), ("identity", "rbr_skip"),
        ("final_conv", "conv_exp"), ("large_conv", "lkb_origin"), ("mlp", "convffn"), ("se.fc1", "se.reduce"),
        ("se.fc2", "se.expand"), (".gamma", ""), ("head.fc.weight", "head.proj"),
    )  # fmt: skip
    return renamed(key, parts)


def apple_vit(key: str) -> str:
    if key in ("pos_embed", "cls_token"):
        return "pos_embed.pos_embed.pos_embed" if key == "pos_embed" else key
    if key == "head.weight":
        return "classifier.proj"
    if key.startswith("norm."):
        return key.replace("norm.", "post_transformer_norm.")
    if key.startswith("patch_embed."):
        return renamed(key, (("patch_embed.backbone.", "patch_emb."), (".conv.", ".block.conv."), (".bn.", ".block.norm.")))
    parts = (
        ("blocks.", "transformer."), ("norm1", "pre_norm_mha.0"), ("attn.qkv.", "attn.qkv_proj."), ("attn.proj.", "attn.out_proj."),
        ("attn.", "pre_norm_mha.1."), ("norm2", "pre_norm_ffn.0"), ("mlp.fc1", "pre_norm_ffn.1"), ("mlp.fc2", "pre_norm_ffn.4"),
    )  # fmt: skip
    return renamed(key, parts)


@torch.no_grad()
def export_apple(output):
    """Apple's image projection has no bias, which is zero in OpenCLIP's form of the weights."""
    for name in ("mci0", "vit"):
        model = FAMILY.stored(name, output)
        trunk = model.visual.trunk
        (trunk.head if name == "vit" else trunk.head.fc).bias.zero_()
        state = {"an.optimizer": torch.zeros(2)}
        for key, value in model.state_dict().items():
            inner = key.removeprefix("visual.trunk.")
            if inner in ("head.bias", "head.fc.bias"):
                continue
            if inner in ("head.weight", "head.fc.weight"):
                value = value.T
            if key == "text.positional_embedding":
                value = value[None, None]
            if inner == "pos_embed":
                value = value[None]
            if key.startswith("text."):
                key = apple_text(key)
            elif key.startswith("visual.trunk."):
                key = "image_encoder.model." + (apple_vit(inner) if name == "vit" else apple_fastvit(inner, trunk))
            assert key not in state, key
            state[key] = value
        back, expected = convert_state_dict(model, dict(state)), model.state_dict()
        assert set(back) == set(expected) and all(torch.equal(back[k], v) for k, v in expected.items())
        upstream.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, output / f"apple_{name}.safetensors")


WIDE = {**TWO, "embed_dims": [16, 32], "mlp_ratios": [1, 2]}
INIT = {
    "fastvit": case("fastvit_mci0", {**WIDE, "layer_scale_init_value": 0.5}, embed_dim=24),
    "mlp": case("fastvit_mci3", {**WIDE, "norm_layer": "layernorm2d"}, {"timm_proj": "mlp", "timm_proj_bias": True}, embed_dim=24),
    "vit": case("vit_base_mci_224", {"embed_dim": 32, "depth": 1, "num_heads": 2}, TOKEN, embed_dim=24),
}
FAMILY = MobileClip("mobileclip", 5200, CASES, INIT, ["MobileCLIP*"])


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, export_apple)
