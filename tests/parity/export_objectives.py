"""Loss and parameter gradients of every objective on one batch of 24 pairs, by open_clip's own loss classes.

Outputs under data/objectives/:
  clip, siglip, distill, coca .safetensors   weights/<key>, grad/<key>, input/{image,text}, output/<loss>;
                                             distill also teacher/<key>
  objectives.json                            each case's model_cfg (and teacher_cfg)

24 pairs can be shared by 2, 3 and 4 ranks of several micro-batches each; `tests/tests/train/ranks.rs` does.

Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import json
from pathlib import Path

import export_coca
import open_clip
import upstream

PAIRS = 24
VISION = {"image_size": 9, "patch_size": 3, "width": 8, "head_width": 4, "layers": 1}
TEXT = {"context_length": 10, "vocab_size": 24, "width": 8, "heads": 2, "layers": 1}
PLAIN = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}
TEACHER = {"embed_dim": 12, "vision_cfg": {**VISION, "width": 12}, "text_cfg": {**TEXT, "layers": 2}}
SIGLIP = {**PLAIN, "init_logit_scale": 2.3, "init_logit_bias": -3.0}
COCA = {
    "embed_dim": 8,
    "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4, "output_tokens": True},
    "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
    "custom_text": True,
}


def clip(found: dict, _) -> dict:
    return open_clip.ClipLoss()(found["image_features"], found["text_features"], found["logit_scale"], output_dict=True)


def siglip(found: dict, _) -> dict:
    features = found["image_features"], found["text_features"]
    return open_clip.loss.SigLipLoss()(*features, found["logit_scale"], found["logit_bias"], output_dict=True)


def distill(found: dict, taught: dict) -> dict:
    parts = [d[k] for d in (found, taught) for k in ("image_features", "text_features", "logit_scale")]
    return open_clip.loss.DistillClipLoss()(*parts, output_dict=True)


def coca(found: dict, _) -> dict:
    return open_clip.CoCaLoss(2.0, 1.0, 0)(**found, output_dict=True)


CASES = {"clip": (PLAIN, clip), "siglip": (SIGLIP, siglip), "distill": (PLAIN, distill), "coca": (COCA, coca)}


def export(name: str, seed: int, output: Path) -> dict:
    config, objective = CASES[name]
    model = (export_coca.FAMILY if name == "coca" else upstream).build(config, seed)
    teacher = upstream.build(TEACHER, seed + 50).requires_grad_(False)
    image = upstream.pixels(PAIRS, 3, 9, 9)
    text = upstream.captions(PAIRS, TEXT["context_length"], TEXT["vocab_size"], None)
    losses = objective(model(image, text), teacher(image, text) if name == "distill" else None)
    sum(losses.values()).backward()
    tensors = {**upstream.weights(model), **upstream.gradients(model), "input/image": upstream.in_bytes(image), "input/text": text}
    tensors |= {f"output/{k}": v.reshape(1) for k, v in losses.items()}
    if name == "distill":
        tensors |= upstream.prefixed("teacher", teacher.state_dict())
    upstream.save(tensors, output / f"{name}.safetensors")
    print(name, {k: float(v) for k, v in losses.items()})
    return {"model_cfg": config, "teacher_cfg": TEACHER}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent / "data" / "objectives")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    cases = {name: export(name, 3100 + i, output) for i, name in enumerate(CASES)}
    (output / "objectives.json").write_text(json.dumps({**cases, "open_clip": open_clip.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
