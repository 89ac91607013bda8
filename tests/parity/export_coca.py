#!/usr/bin/env python3
"""Small random CoCa models of upstream OpenCLIP: features, caption logits, gradients, captions.

Under data/coca/:
  <case>.safetensors, <case>.json    as `export_models.py` writes them, with other outputs:
      output/image_features, output/text_features      f32, unit length
      output/logits             f32 [B, L - 1, V], caption logits of 3.3.0
      output/contrastive, output/caption               f32 [], both losses
      grad/<key>                f32, gradient of contrastive + 2 * caption
      output/greedy             i64, captions of the likeliest tokens, of models with a Hugging Face text tower
  captions.json                 what OpenCLIP 2.29.0 generates, by `--generate`: model, images, settings, token ids
  captions.safetensors          <model>/weights/<key>, <model>/image, and <model>/{text,logits}, caption logits of 2.29.0 at every
                                position
  validation.json               losses that validation reports of the case `pool`
  validation.safetensors        pictures, 0 to 255 in f32, and text of its batches
  parameters.json               of every configuration of the family, as `export_profile.py` writes it

`--fuzz SEED COUNT --output DIR` makes models of random valid configurations instead, for the ignored test `random_models`;
`--generate` with `--output` and `--models COUNT` more captions. `--saved DIR` loads every `<case>.saved.safetensors` that the ignored
test `save_for_open_clip` wrote there, strictly. The models need `open_clip_torch==3.3.0`. `--generate` needs
`open_clip_torch==2.29.0` and `transformers==4.44.2`, which has the beam search of that time.
"""

import argparse
import json
import random
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

DATA = Path(__file__).resolve().parent / "data/coca"
NAMES = ("coca_ViT-B-32", "coca_ViT-L-14", "coca_base")


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


def build(config, seed):
    import export_models

    hf = "hf_model_name" in config["text_cfg"]
    if hf:
        import export_hftext

    model = (export_hftext if hf else export_models).build(config, seed)
    with torch.no_grad():
        # Upstream leaves the decoder's projection uninitialised.
        model.text_decoder.text_projection.normal_(std=config["text_cfg"]["width"] ** -0.5)
        if not hf and model.text.cls_emb is not None:
            model.text.cls_emb.add_(0.2 * torch.randn_like(model.text.cls_emb))
    return model


def export(name, case, seed, output):
    import export_models

    config, batch = case["config"], case["batch"]
    model = build(config, seed)
    height, width = model.visual.image_size
    image = torch.randn(batch, 3, height, width)
    text_cfg = config["text_cfg"]
    if "hf_model_name" in text_cfg:
        import export_hftext

        text = export_hftext.captions(batch, text_cfg["context_length"], model.text.config)
    else:
        text = export_models.captions(batch, text_cfg["context_length"], text_cfg["vocab_size"], None)
    found = model(image, text)
    # The loss does not take the bias, which a softmax does not see.
    found.pop("logit_bias", None)
    contrastive, caption = open_clip.CoCaLoss(2.0, 1.0, 0)(**found)
    (contrastive + caption).backward()
    tensors = {f"weights/{k}": v for k, v in model.state_dict().items()}
    tensors |= {"input/image": image, "input/text": text}
    tensors |= {f"output/{k}": found[k].detach() for k in ("image_features", "text_features", "logits")}
    tensors |= {"output/contrastive": contrastive.detach(), "output/caption": caption.detach() / 2}
    if "hf_model_name" in text_cfg:
        tensors["output/greedy"] = greedy(model, image, text_cfg["context_length"] - 1)
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    tensors |= {f"grad/{k}": v for k, v in gradients.items()}
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, output / f"{name}.safetensors")
    vanishing = sorted(n for n, g in gradients.items() if float(g.abs().max()) < 1e-6)
    description = {"case": name, "model_cfg": config, "vanishing_gradients": vanishing, "open_clip": open_clip.__version__}
    (output / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")
    return f"{name}: contrastive {float(contrastive):.4f}, caption {float(caption) / 2:.4f}"


@torch.no_grad()
def export_validation(output):
    """Two batches of the case `pool`, and what validation reports of them: OpenCLIP's later versions leave padding out."""
    from torch.nn import functional as F

    model = build(CASES["pool"]["config"], 2000)
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
    save_file({"pictures": pictures.float(), "text": text}, output / "validation.safetensors")
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


def settings(draw, context):
    beams, groups = draw.choice([(6, 3), (6, 3), (4, 2), (3, 1), (4, 4)])
    seq_len = draw.randint(7, context)
    found = {"seq_len": seq_len, "min_seq_len": draw.randint(2, min(6, seq_len - 1))}
    found |= {"repetition_penalty": draw.choice([1.0, 1.0, 1.3, 0.8]), "fixed_output_length": draw.random() < 0.2}
    kind = draw.choice(["beam_search"] * 3 + ["top_k", "top_p"])
    found["generation_type"] = kind
    if kind == "beam_search":
        found |= {"num_beams": beams, "num_beam_groups": groups}
    elif kind == "top_k":
        found |= {"top_k": 1, "temperature": draw.choice([1.0, 0.5])}
    else:
        # So small that only the likeliest token is left.
        found |= {"top_p": 1e-4}
    return found


@torch.no_grad()
def generate(output, count):
    """Captions of random models; the weights are large, so that the logits are far apart and some captions end early."""
    assert open_clip.__version__ == "2.29.0", open_clip.__version__
    from open_clip.coca_model import CoCa

    cases, tensors = [], {}
    for seed in range(count):
        draw = random.Random(seed)
        torch.manual_seed(seed)
        vision = draw.choice([{}, {}, {**NO_POOL, "layers": 1}])
        config = case(vision, {"vocab_size": 24, "context_length": 14}, {"layers": draw.randint(1, 2)})["config"]
        kwargs = {k: v for k, v in config.items() if k != "custom_text"}
        model = CoCa(**kwargs).eval()
        for name, parameter in model.named_parameters():
            if "text_decoder.text_projection" in name:
                parameter.normal_(std=0.5)
            elif parameter.ndim > 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif "ln_" not in name and "logit_scale" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        # Some models like to end a caption.
        liking = draw.choice([0.0, 0.3, 0.6])
        model.text_decoder.ln_final.bias.add_(liking * model.text_decoder.text_projection[:, 23])
        ids = {"sot_token_id": 22, "eos_token_id": 23, "pad_token_id": 0}
        image = torch.randn(3, 3, 18, 18)
        runs = []
        for _ in range(3):
            chosen = settings(draw, 14)
            captions = model.generate(image, **ids, **chosen)
            runs.append({**chosen, "captions": captions.tolist()})
        # `generate` puts a beam search's model into no particular mode, a sampler's back into this one.
        model.eval()
        text = torch.randint(0, 22, (3, 14))
        text[0, 6:] = 0
        tensors |= {f"{seed}/weights/{k}": v for k, v in model.state_dict().items()}
        tensors |= {f"{seed}/image": image, f"{seed}/text": text, f"{seed}/logits": model(image, text)["logits"]}
        cases.append({"model_cfg": config, "runs": runs})
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, output / "captions.safetensors")
    (output / "captions.json").write_text(json.dumps(cases) + "\n")
    lengths = [len(c) for case in cases for run in case["runs"] for c in run["captions"]]
    ends = sum(23 in c[:-1] for case in cases for run in case["runs"] for c in run["captions"])
    print(f"{len(lengths)} captions, {ends} end before the last place")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DATA)
    parser.add_argument("--fuzz", type=int, nargs=2, metavar=("SEED", "COUNT"))
    parser.add_argument("--saved", type=Path)
    parser.add_argument("--generate", action="store_true")
    parser.add_argument("--models", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.saved:
        import family

        return family.check_saved(args.saved, DATA, build, {name: case["config"] for name, case in CASES.items()})
    args.output.mkdir(parents=True, exist_ok=True)
    if args.generate:
        return generate(args.output, args.models)
    assert open_clip.__version__ == "3.3.0", open_clip.__version__
    if args.fuzz:
        first, number = args.fuzz
        for seed in range(first, first + number):
            print(export(f"random_{seed}", random_case(seed), seed, args.output))
        return
    for i, (name, case) in enumerate(CASES.items()):
        print(export(name, case, 2000 + i, args.output))
    export_validation(args.output)
    import family

    family.export_parameters(NAMES, args.output)


if __name__ == "__main__":
    main()
