#!/usr/bin/env python3
"""Small random CoCa models of upstream OpenCLIP, and what belongs to that family. `family.py` describes the files under data/coca/ and
the options, but for
  <case>.safetensors        other outputs
      output/image_features, output/text_features      f32, unit length
      output/logits         f32 [B, L - 1, V], caption logits of 3.3.0
      output/contrastive, output/caption               f32 [], both losses
      grad/<key>            f32, gradient of contrastive + 2 * caption
      output/greedy         i64, captions of the likeliest tokens, of models with a Hugging Face text tower
  validation.json           losses that validation reports of the case `pool`
  validation.safetensors    pictures in u8 and text of its batches

`export_captions.py` writes captions. Needs `pip install open_clip_torch==3.3.0 transformers==5.23.0`.
"""

import json
import random

import export_hftext
import family
import open_clip
import torch
import upstream


def case(vision=None, text=None, decoder=None, batch=4, **top):
    vision_cfg = {"image_size": 18, "patch_size": 6, "width": 12, "head_width": 6, "layers": 1, "output_tokens": True}
    vision_cfg |= {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 5, **(vision or {})}
    text_cfg = {"context_length": 12, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1, "embed_cls": True}
    text_cfg |= {"output_tokens": True, **(text or {})}
    keys = ("context_length", "vocab_size", "width")
    multimodal = {**{k: text_cfg[k] for k in keys}, "heads": 4, "layers": 1, "attn_pooler_heads": 4, **(decoder or {})}
    config = {"embed_dim": text_cfg["width"], **top, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    return {"config": {**config, "multimodal_cfg": multimodal, "custom_text": True}, "batch": batch}


NO_POOL = {"attentional_pool": False, "width": 8, "head_width": 4}
SCALE = {"ls_init_value": 0.1}
CASES = {
    "pool": case(),
    "no_pool": case({**NO_POOL, "final_ln_after_pool": True}, quick_gelu=True, embed_dim=10),
    "average_odd_image": case(
        {"image_size": [31, 17], "patch_size": 5, "pool_type": "avg", **SCALE},
        {"proj_bias": True, **SCALE},
        SCALE,
        init_logit_bias=-10,
    ),
    "no_class_token": case(NO_POOL, text={"embed_cls": False, "mlp_ratio": 3.7}, decoder={"mlp_ratio": 2}),
    "roberta": case(
        {**NO_POOL, "image_size": 12},
        {
            "embed_cls": False, "hf_model_name": "roberta-base", "hf_proj_type": "linear",
            "hf_model_config": {
                "vocab_size": 24, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 10,
                "max_position_embeddings": 15, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
            },
        },
        embed_dim=10,
    ),
}


def random_case(seed):
    draw = random.Random(seed)
    heads = draw.randint(1, 4)
    width = heads * draw.randint(2, 8)
    divisors = [n for n in range(1, width + 1) if width % n == 0]
    patch = draw.choice([2, 3, 5, 7])
    side = lambda: patch * draw.randint(1, 4) + draw.randint(0, patch - 1)
    vision = {"image_size": [side(), side()], "patch_size": patch, "layers": draw.randint(1, 3)}
    top = {}
    if draw.random() < 0.7:
        head_width = draw.randint(2, 8)
        vision |= {"width": head_width * draw.randint(1, 4), "head_width": head_width}
        vision |= {"attn_pooler_queries": draw.randint(2, 9), "attn_pooler_heads": draw.choice(divisors)}
    else:
        vision |= {"attentional_pool": False, "width": width, "head_width": width // heads}
        top["embed_dim"] = draw.randint(2, 20)
    for key, values in {"final_ln_after_pool": [True], "no_ln_pre": [True], "pool_type": ["avg"], "ls_init_value": [0.1]}.items():
        if draw.random() < 0.25:
            vision[key] = draw.choice(values)
    text = {"width": width, "heads": heads, "layers": draw.randint(1, 3), "vocab_size": draw.randint(12, 90)}
    text["context_length"] = draw.randint(6, 20)
    if draw.random() < 0.2:
        text["embed_cls"] = False
    if draw.random() < 0.3:
        top["quick_gelu"] = True
    decoder = {"heads": draw.choice(divisors), "layers": draw.randint(1, 3)}
    return case(vision, text, decoder, batch=draw.choice([1, 2, 3, 5]), **top)


def has_hf_text(config):
    return "hf_model_name" in config["text_cfg"]


class Coca(family.Family):
    def create(self, config, name, **options):
        return (export_hftext.FAMILY if has_hf_text(config) else super()).create(config, name, **options)

    @torch.no_grad()
    def unsettle(self, model, config):
        if has_hf_text(config):
            export_hftext.FAMILY.unsettle(model, config)
        # Upstream leaves the decoder's projection uninitialised.
        model.text_decoder.text_projection.normal_(std=config["text_cfg"]["width"] ** -0.5)
        if not has_hf_text(config) and model.text.cls_emb is not None:
            model.text.cls_emb.add_(0.2 * torch.randn_like(model.text.cls_emb))

    def inputs(self, model, config, batch):
        return (export_hftext.FAMILY if has_hf_text(config) else super()).inputs(model, config, batch)

    def evaluate(self, model, image, text):
        model.zero_grad()
        found = model(image, text)
        # The loss does not take the bias, which a softmax does not see.
        found.pop("logit_bias", None)
        contrastive, caption = open_clip.CoCaLoss(2.0, 1.0, 0)(**found)
        (contrastive + caption).backward()
        outputs = {k: found[k].detach() for k in ("image_features", "text_features", "logits")}
        outputs |= {"contrastive": contrastive.detach(), "caption": caption.detach() / 2}
        return upstream.prefixed("output", outputs) | upstream.gradients(model)

    def record(self, name, model, image, text):
        found, about = super().record(name, model, image, text)
        if isinstance(model.text, open_clip.hf_model.HFTextEncoder):
            found["output/greedy"] = greedy(model, image, text.shape[1] - 1)
        return found, about


FAMILY = Coca("coca", 2000, CASES, configurations=["coca_ViT-B-32", "coca_ViT-L-14", "coca_base"])


@torch.no_grad()
def export_validation(output):
    """Two batches of the case `pool`, and what validation reports of them: OpenCLIP's later versions leave padding out."""
    from torch.nn import functional as F

    model = FAMILY.build(CASES["pool"]["config"], 2000)
    pictures = torch.randint(0, 256, (5, 3, 18, 18), dtype=torch.uint8)
    text = torch.randint(1, 24, (5, 12))
    for row, length in enumerate((12, 3, 7, 2, 9)):
        text[row, length:] = 0
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    sums = {"clip_val_loss": 0.0, "val_generative_loss": 0.0}
    for rows in (slice(0, 3), slice(3, 5)):
        found = model((pictures[rows] / 255 - mean) / std, text[rows])
        logits = found["logit_scale"] * found["image_features"] @ found["text_features"].T
        own = torch.arange(len(logits))
        sums["clip_val_loss"] += len(logits) * float(F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        captions = F.cross_entropy(found["logits"].permute(0, 2, 1), found["labels"], ignore_index=0)
        sums["val_generative_loss"] += len(logits) * float(captions)
    upstream.save({"pictures": pictures, "text": text}, output / "validation.safetensors")
    metrics = {k: v / len(text) for k, v in sums.items()}
    (output / "validation.json").write_text(json.dumps({"batches": [3, 2], **metrics}, indent=1) + "\n")


@torch.no_grad()
def greedy(model, image, length):
    """Captions of the likeliest tokens; the `generate` of 3.3.0 needs a beam search that transformers has no more."""
    found = torch.zeros(len(image), 1, dtype=torch.int64)
    while found.shape[1] < length:
        logits = model(image, found, output_labels=False)["logits"][:, -1]
        found = torch.cat([found, logits.argmax(-1, keepdim=True)], 1)
    return found


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, export_validation)
