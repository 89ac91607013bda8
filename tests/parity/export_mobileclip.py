#!/usr/bin/env python3
"""Small random MobileCLIP models of upstream OpenCLIP, and what belongs to that family.

Under data/mobileclip/:
  <case>.safetensors, <case>.json    as `family.py` writes them, and of training mode in some
      train/{image_features,loss}    with the batch's statistics
      train/grad/<key>               gradient of that loss
      once/<key>                     running statistics after one forward pass
  apple_<case>.safetensors           the same weights under the keys of Apple's own checkpoints, which upstream's
                                     `convert_state_dict` turns into the case's, but for a bias that is zero in them
  parameters.json, init.json         as `export_profile.py` and `export_init.py` write them

The trunks are timm's, made smaller by the arguments under `timm_kwargs` of `vision_cfg`, a key that upstream does not know. Where timm
takes layers, that key has their names.
`--fuzz SEED COUNT --output DIR` makes models of random valid configurations instead, for the ignored test `random_models`.
`--saved DIR` checks what the ignored test `save_for_open_clip` wrote. Needs `pip install open_clip_torch==3.3.0`.
"""

import copy
import functools
import random
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import export_models
import export_resnet
import family
import open_clip
import torch
from open_clip.convert import convert_state_dict
from safetensors.torch import load_file, save_file
from timm.layers import LayerNorm2d
from timm.models import fastvit, vision_transformer_hybrid
from timm.utils import reparameterize_model

DATA = Path(__file__).resolve().parent / "data/mobileclip"

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
def perturb(model):
    """Every weight off its neutral value, and branches that are large enough to count."""
    export_resnet.unsettle(model)
    for name, parameter in model.visual.named_parameters():
        noise = torch.randn_like(parameter)
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "gamma":
            parameter.copy_(0.5 + 0.2 * noise)
        elif leaf in ("pos_embed", "cls_token"):
            parameter.add_(0.2 * noise)
        elif parameter.ndim == 1 and leaf == "bias":
            parameter.add_(0.2 * noise)
        elif parameter.ndim == 1:
            parameter.add_(0.1 * noise)
        else:
            parameter.copy_(parameter[0].numel() ** -0.5 * noise)


@torch.no_grad()
def folded(model, image) -> torch.Tensor:
    """Features after upstream's own joining of branches."""
    model = copy.deepcopy(model)
    model.visual.trunk = reparameterize_model(model.visual.trunk)
    return model.encode_image(image)


def training(model, image, text) -> tuple[dict, dict]:
    """Results in training mode, and how far they are from f64: statistics of a few values can be ill-conditioned."""
    found = export_resnet.evaluate(copy.deepcopy(model).train(), image, text)
    exact = export_resnet.evaluate(copy.deepcopy(model).double().train(), image.double(), text)
    largest = max(float(v.abs().max()) for k, v in exact.items() if k.startswith("grad/"))
    noise = {
        "features_abs": float((found["image_features"] - exact["image_features"]).abs().max()),
        "gradients": max(
            float((found[k] - v).abs().max()) / max(float(v.abs().max()), 1e-3 * largest) for k, v in exact.items() if k.startswith("grad/")
        ),
    }
    tensors = {f"train/{k}": v for k, v in found.items() if k != "text_features"}
    return tensors | {f"once/{k}": v for k, v in export_resnet.after(model, [image]).items()}, noise


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

    def unsettle(self, model, vision):
        perturb(model)

    def export(self, name, case, seed, output):
        config, batch = case["config"], case["batch"]
        model = self.build(config, seed)
        model.visual.image_size = open_clip.utils.to_2tuple(config["vision_cfg"]["image_size"])
        image, text = export_models.inputs(model, config, batch)
        more, trained = {"batch": batch}, {}
        if name in TRAINED or name not in CASES:
            trained, more["training_f32_against_f64"] = training(model, image, text)
        line = family.export(name, config, model, (image, text), seed, output, **more)
        file = output / f"{name}.safetensors"
        tensors = {**load_file(file), **trained}
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, file)
        apart = float((folded(model, image) - tensors["output/image_features"]).abs().max())
        return f"{line}  {file.stat().st_size // 1000} kB with training  upstream folded {apart:.1e}"


SEED = 5200
FAMILY = MobileClip(DATA, SEED, CASES)


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
def export_apple(output: Path):
    """Apple's image projection has no bias, which is zero in OpenCLIP's form of the weights."""
    for name in ("mci0", "vit"):
        model = FAMILY.build(CASES[name]["config"], SEED + list(CASES).index(name))
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
            state[key] = value.contiguous().clone()
        back, expected = convert_state_dict(model, dict(state)), model.state_dict()
        assert set(back) == set(expected) and all(torch.equal(back[k], v) for k, v in expected.items())
        save_file({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, output / f"apple_{name}.safetensors")


WIDE = {**TWO, "embed_dims": [16, 32], "mlp_ratios": [1, 2]}
INIT = {
    "fastvit": case("fastvit_mci0", {**WIDE, "layer_scale_init_value": 0.5}, embed_dim=24),
    "mlp": case("fastvit_mci3", {**WIDE, "norm_layer": "layernorm2d"}, {"timm_proj": "mlp", "timm_proj_bias": True}, embed_dim=24),
    "vit": case("vit_base_mci_224", {"embed_dim": 32, "depth": 1, "num_heads": 2}, TOKEN, embed_dim=24),
}


def others(output: Path):
    export_apple(output)
    family.export_parameters(sorted(n for n in open_clip.list_models() if n.startswith("MobileCLIP")), output)
    FAMILY.export_initial_weights(INIT, output)


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, [others])
