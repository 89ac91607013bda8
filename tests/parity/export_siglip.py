#!/usr/bin/env python3
"""Small random SigLIP models of upstream OpenCLIP, and what belongs to that family. `family.py` describes the files under data/siglip/ and
the options, but for
  <case>.safetensors                 in addition
      output/siglip_loss             f32 [], `SigLipLoss` on the model's output
      siglip_grad/<key>              f32, gradient of that loss for every trainable parameter, in some cases
  big_vision.npz, big_vision_stacked.npz    the weights of the case `plain` under big_vision's names, a block at a time or all
                                     blocks in one array; upstream's `load_big_vision_weights` gives the weights back
  hf.safetensors                     a `SiglipModel` of transformers; input/ and output/ of it in hf_features.safetensors
  tokenizer/, tokens.json            a small T5-like `tokenizer.json` and ids of `HFTokenizer` for the SigLIP configurations

Needs `pip install open_clip_torch==3.3.0 transformers`.
"""

import json
import math
import random
from pathlib import Path

import family
import numpy as np
import open_clip
import torch
import upstream
from open_clip.convert import load_big_vision_weights
from safetensors.torch import save_file

TRUNK = {"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2}
EXACT, TANH = "vit_base_patch16_siglip_224", "vit_base_patch32_siglip_256"
TEXT = {
    "context_length": 8, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1, "mlp_ratio": 3.7362,
    "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
}  # fmt: skip


def case(name=EXACT, vision=None, text=None, trunk=None, batch=3, embed_dim=None, **top):
    kwargs = {**TRUNK, **(trunk or {})}
    vision_cfg = {"image_size": 14, "timm_model_name": name, "timm_pool": "map", "timm_proj": "none", **(vision or {})}
    vision_cfg["timm_kwargs"] = kwargs
    config = {"embed_dim": embed_dim or kwargs["embed_dim"], "init_logit_bias": -10, "custom_text": True, **top}
    return {"config": {**config, "vision_cfg": vision_cfg, "text_cfg": {**TEXT, **(text or {})}}, "batch": batch}


CASES = {
    "plain": case(trunk={"depth": 2}, text={"layers": 2}, init_logit_scale=math.log(10)),
    "siglip2": case(TANH, {"image_size": 19}, {"act_kwargs": {"approximate": "tanh"}}, batch=4),
    "odd_image": case(vision={"image_size": [31, 17]}, trunk={"patch_size": 5, "mlp_ratio": 3.7362}),
    "no_text_projection": case(text={"proj_type": "none", "proj_bias": False}),
    "mlp": case(vision={"timm_proj": "mlp", "patch_dropout": 0.25}, embed_dim=10),
    "classifier_avg": case(
        vision={"timm_proj": None, "timm_pool": "avg"}, trunk={"init_values": 0.1, "qkv_bias": False}, embed_dim=12
    ),
    "gap": case("vit_medium_patch16_gap_256", {"timm_pool": "avg", "timm_proj": "linear"}, embed_dim=12),
    "class_token": case(
        "vit_large_patch14_clip_224",
        {"timm_pool": "token", "timm_proj": None},
        trunk={"act_layer": "quick_gelu"},
        embed_dim=12,
    ),
}

# Cases whose gradients of the sigmoid loss are kept, besides its value.
SIGLIP_GRADIENTS = ("plain", "siglip2")


class SigLip(family.Timm):
    def unsettle(self, model, config):
        moved = lambda name, parameter, noise: parameter + parameter.shape[-1] ** -0.5 * noise
        family.perturb(model.visual, ("bias", "pos_embed", "cls_token", "latent"), gamma=0.4, weights=moved)

    def evaluate(self, model, image, text):
        found = super().evaluate(model, image, text)
        model.zero_grad()
        loss = open_clip.loss.SigLipLoss()(**model(image, text))
        loss.backward()
        return {**found, "output/siglip_loss": loss.detach(), **{f"siglip_{k}": v for k, v in upstream.gradients(model).items()}}

    def record(self, name, model, image, text):
        found, about = super().record(name, model, image, text)
        if name in CASES and name not in SIGLIP_GRADIENTS:
            found = {k: v for k, v in found.items() if not k.startswith("siglip_grad/")}
        return found, about


def random_case(seed: int) -> dict:
    draw = random.Random(seed)
    pick = draw.choice
    heads = draw.randint(1, 4)
    width = heads * draw.randint(2, 8)
    trunk = {"patch_size": draw.randint(3, 9), "embed_dim": width, "depth": draw.randint(1, 3), "num_heads": heads}
    trunk["mlp_ratio"] = pick([4.0, 3.7362, 2.5])
    trunk["qkv_bias"] = pick([True, False])
    if pick([True, False]):
        trunk["init_values"] = 0.1
    name = pick([EXACT, TANH, "vit_so400m_patch14_siglip_384", "vit_giantopt_patch16_siglip_256"])
    pool = pick(["map", "map", "avg", "token"])
    if pool == "token" or draw.random() < 0.2:
        trunk |= {"class_token": True, "no_embed_class": pick([True, False]), "pre_norm": pick([True, False])}
    proj = pick(["none", "linear", "mlp", None])
    if proj in ("linear", "mlp"):
        trunk["global_pool"] = pool
    vision = {"timm_pool": pool, "timm_proj": proj, "image_size": [draw.randint(9, 40), draw.randint(9, 40)]}
    if proj in ("linear", "mlp") and pick([True, False]):
        vision["timm_proj_bias"] = True
    text_heads = draw.randint(1, 3)
    text = {"width": text_heads * draw.randint(2, 8), "heads": text_heads, "context_length": draw.randint(6, 20)}
    text |= {"layers": draw.randint(1, 3), "vocab_size": draw.randint(20, 90), "pool_type": pick(["last", "argmax", "first"])}
    if pick([True, False]):
        text["act_kwargs"] = {"approximate": "tanh"}
    embed_dim = width if proj == "none" else draw.randint(4, 24)
    if pick([True, False]):
        text |= {"proj_type": "none", "proj_bias": False, "width": embed_dim, "heads": 1}
    return case(name, vision, text, trunk, draw.randint(2, 8), embed_dim, init_logit_scale=draw.uniform(0, 4))


def big_vision(state: dict, config: dict, stacked: bool, prefix: str) -> dict:
    """The inverse of `load_big_vision_weights`."""
    state = {k: v.numpy() for k, v in state.items()}
    out = {}

    def dense(target, source, kernel=lambda w: w.T):
        out[f"{target}/kernel"], out[f"{target}/bias"] = kernel(state[f"{source}.weight"]), state[f"{source}.bias"]

    def norm(target, source):
        out[f"{target}/scale"], out[f"{target}/bias"] = state[f"{source}.weight"], state[f"{source}.bias"]

    def attention(target, packed, proj, heads):
        """`packed` maps query, key and value to (weight, bias), `proj` is a key."""
        for name, (weight, bias) in packed.items():
            width = weight.shape[1]
            out[f"{target}/{name}/kernel"] = weight.T.reshape(width, heads, -1)
            out[f"{target}/{name}/bias"] = bias.reshape(heads, -1)
        weight = state[f"{proj}.weight"]
        out[f"{target}/out/kernel"] = weight.T.reshape(heads, -1, weight.shape[0])
        out[f"{target}/out/bias"] = state[f"{proj}.bias"]

    def split(weight, bias, names):
        pieces = zip(np.split(weight, len(names)), np.split(bias, len(names)))
        return dict(zip(names, pieces))

    def block(target, source, names, heads):
        norm(f"{target}/LayerNorm_0", f"{source}.{names['ln_1']}")
        norm(f"{target}/LayerNorm_1", f"{source}.{names['ln_2']}")
        weight, bias = (state[f"{source}.attn.{n}"] for n in names["qkv"])
        packed = split(weight, bias, ("query", "key", "value"))
        attention(f"{target}/MultiHeadDotProductAttention_0", packed, f"{source}.attn.{names['out']}", heads)
        for i, fc in enumerate(names["mlp"]):
            dense(f"{target}/MlpBlock_0/Dense_{i}", f"{source}.mlp.{fc}")

    trunk, text = "visual.trunk.", "text."
    kwargs = config["vision_cfg"]["timm_kwargs"]
    heads = {"img/Transformer": kwargs["num_heads"], "txt/Encoder_0": config["text_cfg"]["heads"]}
    dense("img/embedding", f"{trunk}patch_embed.proj", lambda w: w.transpose(2, 3, 1, 0))
    out["img/pos_embedding"] = state[f"{trunk}pos_embed"]
    timm_names = {"ln_1": "norm1", "ln_2": "norm2", "qkv": ("qkv.weight", "qkv.bias"), "out": "proj", "mlp": ("fc1", "fc2")}
    text_names = {
        "ln_1": "ln_1", "ln_2": "ln_2", "qkv": ("in_proj_weight", "in_proj_bias"), "out": "out_proj", "mlp": ("c_fc", "c_proj")
    }  # fmt: skip
    for target, source, names, depth in (
        ("img/Transformer", f"{trunk}blocks", timm_names, kwargs["depth"]),
        ("txt/Encoder_0", f"{text}transformer.resblocks", text_names, config["text_cfg"]["layers"]),
    ):
        for i in range(depth):
            block(f"{target}/encoderblock_{i}", f"{source}.{i}", names, heads[target])
        if stacked:
            first = f"{target}/encoderblock_0/"
            for key in [k for k in out if k.startswith(first)]:
                layers = [out.pop(key.replace("encoderblock_0", f"encoderblock_{i}")) for i in range(depth)]
                out[key.replace("encoderblock_0", "encoderblock")] = np.stack(layers)
    norm("img/Transformer/encoder_norm", f"{trunk}norm")
    out["img/MAPHead_0/probe"] = state[f"{trunk}attn_pool.latent"]
    packed = {"query": (state[f"{trunk}attn_pool.q.weight"], state[f"{trunk}attn_pool.q.bias"])}
    packed |= split(state[f"{trunk}attn_pool.kv.weight"], state[f"{trunk}attn_pool.kv.bias"], ("key", "value"))
    attention("img/MAPHead_0/MultiHeadDotProductAttention_0", packed, f"{trunk}attn_pool.proj", kwargs["num_heads"])
    norm("img/MAPHead_0/LayerNorm_0", f"{trunk}attn_pool.norm")
    for i in range(2):
        dense(f"img/MAPHead_0/MlpBlock_0/Dense_{i}", f"{trunk}attn_pool.mlp.fc{i + 1}")
    out["txt/Embed_0/embedding"] = state[f"{text}token_embedding.weight"]
    out["txt/pos_embedding"] = state[f"{text}positional_embedding"][None]
    norm("txt/Encoder_0/encoder_norm", f"{text}ln_final")
    dense("txt/head", f"{text}text_projection")
    out["t"], out["b"] = state["logit_scale"].reshape(1), state["logit_bias"].reshape(1)
    return {prefix + k: np.ascontiguousarray(v) for k, v in out.items()}


def export_big_vision(output: Path):
    config, stored = CASES["plain"]["config"], upstream.stored_weights(output / "plain.safetensors")
    for name, stacked, prefix, save in (
        ("big_vision", False, "params/", np.savez),
        ("big_vision_stacked", True, "", np.savez_compressed),
    ):
        path = output / f"{name}.npz"
        save(path, **big_vision(stored, config, stacked, prefix))
        model = FAMILY.build(config, 5)
        load_big_vision_weights(model, str(path))
        assert all(torch.equal(v, stored[k]) for k, v in model.state_dict().items())


@torch.no_grad()
def export_hugging_face(output: Path):
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(3)
    tower = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20)
    model = SiglipModel(
        SiglipConfig(
            text_config=dict(vocab_size=30, max_position_embeddings=6, pad_token_id=1, bos_token_id=28, eos_token_id=1, **tower),
            vision_config=dict(image_size=20, patch_size=6, **tower),
        )
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image, text = upstream.pixels(3, 3, 20, 20), torch.randint(2, 30, (3, 6))
    state = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
    save_file(state, output / "hf.safetensors", metadata={"format": "pt"})
    out = model(input_ids=text, pixel_values=image)
    tensors = {"input/image": upstream.in_bytes(image), "input/text": text, "logits_per_image": out.logits_per_image}
    tensors |= {"image_features": out.image_embeds, "text_features": out.text_embeds}
    upstream.save(tensors, output / "hf_features.safetensors")


INIT = {
    "map": case(trunk={"embed_dim": 96, "num_heads": 4}, vision={"image_size": 48}, text={"width": 64, "vocab_size": 512}),
    "mlp": case(
        trunk={"embed_dim": 64, "num_heads": 4, "init_values": 1e-5, "class_token": True},
        vision={"image_size": 48, "timm_proj": "mlp", "timm_proj_bias": True},
        embed_dim=40,
    ),
    "linear": case(trunk={"depth": 1}, vision={"timm_proj": "linear", "timm_proj_bias": True}, embed_dim=32),
    "classifier": case(trunk={"depth": 1, "embed_dim": 48}, vision={"timm_proj": None}, embed_dim=32),
}


def export_tokens(output: Path):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["a", "the", "of", "photo", "dog", "cat", "two", "it", "s", "red", "on", "bea", "ch", "ca", "fé"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{w}", -3.0 - i / 10) for i, w in enumerate(words)] + [(w, -5.0 - i / 10) for i, w in enumerate(words) if len(w) > 1]
    pieces += [(c, -9.0) for c in letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder = output / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special) + "\n")
    captions = ["A photo of the Dog.", "two cats, on a RED beach!", "it's", "", "Café_photo -- (of) a cat", "a " * 80, "dog\n\tcat  99"]
    rows = {}
    for name in ("ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP", "ViT-B-16-SigLIP2"):
        text = open_clip.get_model_config(name)["text_cfg"]
        kwargs = text.get("tokenizer_kwargs", {})
        made = open_clip.tokenizer.HFTokenizer(str(folder), context_length=text["context_length"], **kwargs)
        rows[name] = made(captions).tolist()
    (output / "tokens.json").write_text(json.dumps({"captions": captions, "rows": rows}, separators=(",", ":")) + "\n")


FAMILY = SigLip("siglip", 3000, CASES, INIT, ["*SigLIP*"])


def others(output):
    FAMILY.export_resized({"plain": [(8, 8), (24, 24), (29, 15), (12, 12)]}, output)
    export_big_vision(output)
    export_hugging_face(output)
    export_tokens(output)


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, others)
