#!/usr/bin/env python3
"""Small random ModifiedResNets of upstream OpenCLIP, and what belongs to that family. `family.py` and `batch_norm.py` describe the files
under data/resnet/ and the options, but for
  <case>.safetensors     in addition
      twice/<key>        running statistics after a second pass in training mode, over the batch in reverse order with its pixels doubled
      halves/<key>       after an `--accum-freq 2` step: both halves of the batch, twice
    and of large gradients of the committed cases every max(1, n // 48)-th of the n values alone, flattened
  openai.pt              a TorchScript archive with the keys of OpenAI's ResNets in f16, openai.safetensors its features

Needs `pip install open_clip_torch==3.3.0`.
"""

import copy
import json
import random
import tempfile
import zipfile

import batch_norm
import family
import torch
import upstream

TEXT = {"context_length": 8, "vocab_size": 40, "width": 8, "heads": 2, "layers": 1}


def case(layers, width, size, batch=4, text=None, head_width=None, **top) -> dict:
    vision = {"image_size": size, "layers": layers, "width": width, "patch_size": None}
    if head_width:
        vision["head_width"] = head_width
    return {"config": {"embed_dim": 6, **top, "vision_cfg": vision, "text_cfg": {**TEXT, **(text or {})}}, "batch": batch}


CASES = {
    "odd_image": case([3, 2, 1, 1], 2, 65, batch=3, head_width=16, quick_gelu=True, custom_text=True, init_logit_bias=-2.0),
}
# Of a large gradient only about so many values are committed, at even distances.
SAMPLES = 48


def random_case(seed: int) -> dict:
    rng = random.Random(seed)
    width = rng.choice([2, 3, 4, 5])
    channels = 32 * width
    size = rng.choice([s for s in range(32, 110) if s % 32 != 31])
    heads = rng.choice([h for h in (1, 2, 3, 4, 8) if channels % h == 0])
    layers = [rng.randint(1, 3) for _ in range(4)]
    return case(layers, width, size, rng.randint(4, 7), head_width=channels // heads, quick_gelu=rng.random() < 0.5)


class ResNet(family.Family):
    def unsettle(self, model, config):
        batch_norm.unsettle(model)

    def inputs(self, model, config, batch):
        while batch_norm.is_at_a_kink(model, (found := super().inputs(model, config, batch))[0]):
            pass
        return found

    def record(self, name, model, image, text):
        found, about = super().record(name, model, image, text)
        trained, error = batch_norm.training(model, image, text)
        halves = 2 * list(image.split((len(image) + 1) // 2))
        for place, batches in {"twice": [image, 2 * image.flip(0)], "halves": halves}.items():
            trained |= upstream.prefixed(place, batch_norm.statistics(model, batches))
        exact = batch_norm.statistics(upstream.in_f64(model), [half.double() for half in halves])
        error["training_f32_against_f64"]["halves_abs"] = max(float((trained[f"halves/{k}"] - v).abs().max()) for k, v in exact.items())
        found |= trained
        if name in CASES:
            found = {k: v.flatten()[:: max(1, v.numel() // SAMPLES)] if "grad/" in k else v for k, v in found.items()}
        return found, about | error


FAMILY = ResNet("resnet", 4000, CASES, configurations=["RN*"])


class Archive(torch.nn.Module):
    """The state dict of an OpenAI model: its weights and three constants."""

    def __init__(self, model, config):
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name in ("positional_embedding", "text_projection", "logit_scale"):
            setattr(self, name, getattr(model, name))
        self.register_buffer("input_resolution", torch.tensor(config["vision_cfg"]["image_size"]))
        self.register_buffer("context_length", torch.tensor(config["text_cfg"]["context_length"]))
        self.register_buffer("vocab_size", torch.tensor(config["text_cfg"]["vocab_size"]))

    def forward(self, image):
        return self.visual(image)


@torch.no_grad()
def export_openai(output) -> None:
    """Heads of 64 features in both towers, as all of OpenAI's models have."""
    made = case([1, 2, 1, 1], 2, 32, text={"width": 64, "heads": 1}, quick_gelu=True)
    config = made["config"]
    model = FAMILY.build(config, 77)
    half = copy.deepcopy(model)
    for tensor in [*half.parameters(), *half.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()
    image, text = upstream.inputs(model, config, 1)
    features = {"input/image": upstream.in_bytes(image), "input/text": text, "image_features": half.encode_image(image), "text_features": half.encode_text(text)}
    upstream.save(features, output / "openai.safetensors")
    archive = torch.jit.trace(Archive(half, config).eval(), image[:1], check_trace=False)
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        archive.half().save(file.name)
        # Line numbers for debugging are the larger part of a small archive.
        with zipfile.ZipFile(file.name) as full, zipfile.ZipFile(output / "openai.pt", "w") as small:
            for member in full.infolist():
                if not member.filename.endswith(".debug_pkl"):
                    small.writestr(zipfile.ZipInfo(member.filename), full.read(member), member.compress_type)
    (output / "openai_config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, export_openai)
