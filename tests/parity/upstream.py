"""What the exporters ask of upstream: models of a configuration with every weight off its neutral value, a batch for them, their
outputs and gradients, and how far those are from f64."""

import copy
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

import open_clip
import timm
import torch
from safetensors.torch import load_file, save_file

VERSIONS = {"open_clip": open_clip.__version__, "timm": timm.__version__, "torch": torch.__version__.split("+")[0]}


def create(config: dict, name: str, **options) -> torch.nn.Module:
    """A model made by upstream's factory from its own JSON format."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder)
        return open_clip.create_model(name, **options)


def build(config: dict, seed: int) -> torch.nn.Module:
    """In evaluation mode, with every weight moved off its neutral value."""
    torch.manual_seed(seed)
    model = create(config, f"parity-{seed}", output_dict=True)
    perturb(model)
    return model.eval()


@torch.no_grad()
def perturb(model: torch.nn.Module) -> None:
    """Scales near 1, biases off 0, LayerScale large enough to count: an ignored or swapped tensor shows in the output."""
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        leaf = name.rsplit(".", 1)[-1]
        if not parameter.requires_grad:
            continue
        if leaf == "gamma":
            parameter.copy_(0.4 + 0.2 * noise)
        elif ".ln_" in f".{name}" and leaf == "weight":
            parameter.copy_(1 + 0.2 * noise)
        elif leaf in ("bias", "in_proj_bias", "logit_scale", "logit_bias"):
            parameter.add_(0.1 * noise)
        elif leaf in ("positional_embedding", "class_embedding") or "token_embedding" in name:
            parameter.add_(0.2 * noise)


def captions(batch: int, context: int, vocab: int, eos_id: int | None) -> torch.Tensor:
    """Token ids [batch, context]: a short caption, a full row, a tie of the largest id, an empty caption, then random lengths.

    The largest id ends a caption; with an `eos_id` that id ends it instead, and the empty caption has none.
    """
    start, end = vocab - 2, vocab - 1 if eos_id is None else eos_id
    rows = torch.zeros(batch, context, dtype=torch.int64)
    for i in range(batch):
        words = torch.randint(3, vocab - 3, (context,))
        if i == 1:
            length = context - 2
        elif i == 3:
            length = 0
        else:
            length = int(torch.randint(1, context - 4, ()))
        row = [start, *words[:length].tolist(), end]
        if i == 2:
            row += [int(words[-1]), end]
        if i == 3 and eos_id is not None:
            row = row[:-1]
        rows[i, : len(row)] = torch.tensor(row)
    return rows


def pixels(*shape: int) -> torch.Tensor:
    """Normal values on a grid of 1/32, of which `in_bytes` makes a byte each."""
    return torch.randn(shape).mul(32).round().clamp(-127, 127) / 32


def in_bytes(image: torch.Tensor) -> torch.Tensor:
    """What a fixture holds of `pixels`."""
    return (32 * image).to(torch.int8)


def inputs(model: torch.nn.Module, config: dict, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`pixels` and `captions`."""
    height, width = open_clip.utils.to_2tuple(model.visual.image_size)
    text_cfg = config["text_cfg"]
    eos_id = text_cfg["eos_id"] if text_cfg.get("pool_type") == "eos" else None
    image = pixels(batch, 3, height, width)
    return image, captions(batch, text_cfg["context_length"], text_cfg["vocab_size"], eos_id)


def gradients(model: torch.nn.Module) -> dict:
    """grad/<key> of the parameters that have one."""
    return {f"grad/{n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def evaluate(model: torch.nn.Module, image: torch.Tensor, text: torch.Tensor, mode=nullcontext) -> dict:
    """output/<key> and grad/<key> of CLIP's loss, which is of the mode that `mode()` puts the model into."""
    model.zero_grad()
    with mode():
        loss = open_clip.ClipLoss()(**model(image, text))
    loss.backward()
    with torch.no_grad():
        outputs = {
            "image_features": model.encode_image(image),
            "text_features": model.encode_text(text),
            "image_features_norm": model.encode_image(image, normalize=True),
            "text_features_norm": model.encode_text(text, normalize=True),
            "loss": loss.detach(),
        }
    return prefixed("output", outputs) | gradients(model)


def deviation(tensors: dict, exact: dict) -> dict:
    """How far f32 results of `evaluate` are from the same in f64: the floor of any tolerance."""
    features = [f"output/{kind}_features" for kind in ("image", "text")]
    relative = [
        float((tensors[k] - v).abs().max() / v.abs().max())
        for k, v in exact.items()
        if k.startswith("grad/") and float(v.abs().max()) > 1e-9
    ]
    return {
        "features_abs": max(float((tensors[k] - exact[k]).abs().max()) for k in features),
        "gradients_rel_to_tensor_max": max(relative, default=0.0),
    }


def excluded_from_decay(name: str, parameter: torch.Tensor) -> bool:
    """The rule inside `open_clip_train.main.main`, which cannot be called without a full run."""
    return parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))


def in_f64(model: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(model).double()


def prefixed(prefix: str, tensors: dict) -> dict:
    return {f"{prefix}/{k}": v for k, v in tensors.items()}


def weights(model: torch.nn.Module) -> dict:
    """weights/<key> of its state dict."""
    return prefixed("weights", model.state_dict())


def load(path: Path) -> dict:
    """A fixture, with its pictures in f32."""
    return {k: v.float() / 32 if v.dtype == torch.int8 else v for k, v in load_file(path).items()}


def stored_weights(path: Path) -> dict:
    """The state dict in a file that has it under weights/."""
    return {k.removeprefix("weights/"): v for k, v in load_file(path).items() if k.startswith("weights/")}


def save(tensors: dict, path: Path) -> None:
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path)
