"""Writes tests/parity/data/checkpoints/: checkpoints and model folders as other programs leave them, and what PyTorch, OpenCLIP and
transformers make of them.

    python tests/parity/export_checkpoints.py

Needs open_clip_torch 3.3.0, torch, transformers 5. `expected.safetensors` holds, under `FILE/KEY`, the values PyTorch itself sees.
"""

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import json
import pathlib
import pickle
import random
import re
import shutil
import types
import uuid
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).parent / "data" / "checkpoints"
LEGACY = dict(_use_new_zipfile_serialization=False)
expected = {}


class Colour(enum.Enum):
    RED = "red"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Options:
    rate: float = 1e-3

    class Inner(enum.IntEnum):
        ONE = 1


Pair = collections.namedtuple("Pair", "first second")


class Words(dict):
    """A dict of a class of one's own."""


class Row(list):
    """A list of a class of one's own."""


def base():
    torch.manual_seed(0)
    return OrderedDict([("visual.proj", torch.randn(4, 3)), ("ln_final.weight", torch.randn(5)), ("logit_scale", torch.tensor(2.5))])


def expect(name, state):
    for key, tensor in state.items():
        expected[f"{name}/{key}"] = tensor.detach().float().contiguous().clone()


def harmless():
    """Values that trainers put beside weights."""
    deep = ()
    for _ in range(150):
        deep = (deep,)
    values = {
        "namespace": argparse.Namespace(lr=1e-3, betas=(0.9, 0.98), nested=argparse.Namespace(a=1)),
        "simple": types.SimpleNamespace(a=1),
        "sets": [{1, 2}, frozenset({"a"}), set(), {(1, 2), (3, 4)}],
        "path": [pathlib.Path("/tmp/run"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("b")],
        "dates": [
            datetime.datetime(2024, 5, 6, 7, 8, tzinfo=datetime.timezone.utc),
            datetime.date(2024, 5, 6),
            datetime.timedelta(hours=3),
            datetime.timezone(datetime.timedelta(hours=2)),
        ],
        "collections": [
            collections.Counter("aab"),
            collections.deque([1, 2], maxlen=3),
            collections.defaultdict(list, {"a": [1]}),
            collections.defaultdict(int),
            collections.ChainMap({"a": 1}),
            OrderedDict([("a", 1)]),
        ],
        "own": [Colour.RED, Access.READ | Access.WRITE, Options(), Options.Inner.ONE, Pair(1, 2), Words(a=1), Row([1, 2]), Options, Pair],
        "numpy": [np.arange(6).reshape(2, 3).astype(kind) for kind in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", ">f4")]
        + [np.float64(1.5), np.float32(2.5), np.int64(3), np.bool_(True), np.complex64(1j), np.str_("text"), np.bytes_(b"bytes")]
        + [np.array(["a", None], dtype=object), np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]), np.datetime64("2024-05-06"), np.dtype("float32")]
        + [np.asfortranarray(np.ones((2, 3))), np.random.default_rng(1), np.ma.array([1, 2], mask=[0, 1])],
        "torch": [torch.Size([2, 3]), torch.device("cpu"), torch.float16, torch.float8_e4m3fn, torch.strided, torch.channels_last, torch.per_tensor_affine, torch.finfo(torch.float32).eps]
        + [torch.int8],
        "tensors": [
            torch.tensor([1 + 2j]),
            torch.tensor([1 + 2j], dtype=torch.complex128),
            torch.tensor([1, 2], dtype=torch.uint16),
            torch.tensor([1, 2], dtype=torch.uint64),
            torch.quantize_per_tensor(torch.tensor([1.0, 2.0]), 0.5, 0, torch.qint8),
            torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2, dtype=torch.int64), 0, torch.quint8),
            torch.eye(3).to_sparse(),
            torch.eye(3).to_sparse_csr(),
            torch.empty(2, device="meta"),
            nn.Parameter(torch.ones(2)),
            torch.ones(2).untyped_storage(),
        ],
        "numbers": [1 + 2j, 10**40, -(10**40), 2**63, -(2**63), 1e300, float("nan"), float("inf"), True, None, b"bytes" * 100, bytearray(b"ab")],
        "others": [
            decimal.Decimal("1.5"),
            fractions.Fraction(1, 3),
            uuid.UUID(int=5),
            re.compile("a+"),
            functools.partial(max, 1),
            range(3),
            slice(1, 2),
            Ellipsis,
            NotImplemented,
            int,
            len,
            torch.relu,
            nn.Linear(2, 2),
            nn.GELU,
            "text \ud800 and more",
            "caf\u00e9",
        ],
        "deep": deep,
        "weights of others": {"exp_avg": torch.ones(2)},
        "states": [np.random.RandomState(1).get_state(), random.getstate(), torch.Generator().manual_seed(3).get_state()],
    }
    loop = []
    loop.append(loop)
    values["loop"] = loop
    return values


def opaque():
    state, values = base(), harmless()

    def saved(name, **options):
        """All of the values that this form can hold."""

        def fits(value):
            try:
                torch.save(value, io.BytesIO(), **options)
                return True
            except (TypeError, AttributeError, RuntimeError, NotImplementedError, pickle.PicklingError):
                return False

        held = {key: [value for value in many if fits(value)] if isinstance(many, list) and key != "loop" else many for key, many in values.items() if key == "loop" or isinstance(many, list) or fits(many)}
        left = {key: len(many) - len(held[key]) for key, many in values.items() if key in held and hasattr(many, "__len__") and len(many) != len(held[key])}
        print(name, "leaves out", left, values.keys() - held.keys())
        save(name, {"state_dict": state, "epoch": 3, **held}, state, **options)

    saved("harmless_2.pt")
    del values["states"]
    for protocol in (1, 5):
        saved(f"harmless_{protocol}.pt", pickle_protocol=protocol)
    for protocol in (1, 4):
        saved(f"harmless_legacy_{protocol}.pt", pickle_protocol=protocol, **LEGACY)
    # Beside the tensors of a bare state dict.
    among = OrderedDict([*state.items(), ("_extra_state", None), ("config", argparse.Namespace(a=1)), ("seen", {1, 2}), ("shape", np.ones(3))])
    save("among.pt", among, state)
    for name, kind in {"words": Words, "default": lambda pairs: collections.defaultdict(list, pairs)}.items():
        save(f"{name}.pt", {"state_dict": kind(state)}, state)
    attributes = torch.randn(3)
    attributes.note = "kept"
    parameter = nn.Parameter(torch.randn(2))
    parameter.group = 1
    named = OrderedDict([("a", attributes), ("b", parameter)])
    save("attributes.pt", named, named)
    whole = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Sequential(nn.BatchNorm1d(3)))
    whole.register_buffer("kept", torch.randn(2))
    whole.register_buffer("mask", torch.randn(2), persistent=False)
    save("module_object.pt", whole, whole.state_dict())
    save("module_within.pt", {"state_dict": whole, "epoch": 1}, whole.state_dict())


def save(name, value, state, **options):
    torch.save(value, OUT / name, **options)
    expect(name, state)


def numbers():
    """Every number of eight bits in each layout, and unsigned ones."""
    bits = torch.arange(256, dtype=torch.uint8)
    kinds = {name: getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")}
    eight = OrderedDict((name, bits.clone().view(kind)) for name, kind in kinds.items())
    unsigned = OrderedDict((f"u{size}", torch.tensor([0, 1, 2**size - 1], dtype=getattr(torch, f"uint{size}"))) for size in (16, 32, 64))
    unsigned["strided"] = torch.arange(6).to(torch.uint16).view(2, 3).t()
    save("float8.pt", eight, eight)
    save("unsigned.pt", unsigned, unsigned)
    save_file(dict(eight), OUT / "float8.safetensors")
    expect("float8.safetensors", eight)


CONFIG = dict(
    embed_dim=2,
    vision_cfg=dict(image_size=8, patch_size=4, width=4, head_width=2, layers=1),
    text_cfg=dict(context_length=4, vocab_size=8, width=4, heads=2, layers=1),
)


def tiny(seed):
    torch.manual_seed(seed)
    model = open_clip.CLIP(**CONFIG).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def features(model, name, tensors):
    torch.manual_seed(9)
    image = torch.randn(2, 3, 8, 8)
    tokens = torch.tensor([[6, 1, 7, 0], [6, 2, 3, 7]])
    with torch.no_grad():
        found = {"image_features": model.encode_image(image), "text_features": model.encode_text(tokens)}
    tensors.update({f"{name}/{key}": value for key, value in {"input/image": image, "input/text": tokens, **found}.items()})


def trained():
    """Checkpoints of trainers around a model: `model.json` is its configuration."""
    model, average = tiny(1), tiny(2)
    state, other = model.state_dict(), average.state_dict()
    (OUT / "model.json").write_text(json.dumps(CONFIG))
    save_file({k: v.contiguous() for k, v in state.items()}, OUT / "model.safetensors")
    tensors = {}
    features(model, "model", tensors)
    features(average, "average", tensors)
    save_file(tensors, OUT / "features.safetensors")
    prefixed = lambda prefix, state: {prefix + key: value for key, value in state.items()}
    lightning = {"epoch": 1, "state_dict": {**prefixed("model.", state), "loss.logit_scale": torch.zeros(())}, "hyper_parameters": argparse.Namespace(a=1)}
    torch.save(lightning, OUT / "lightning.ckpt", **LEGACY)
    torch.save({"epoch": 3, "state_dict": prefixed("module.", state), "state_dict_ema": other}, OUT / "ema.pt", **LEGACY)
    torch.save({"student": prefixed("module.", state), "teacher": other, "epoch": 1}, OUT / "student.pt", **LEGACY)
    swa = torch.optim.swa_utils.AveragedModel(model)
    torch.save({"averaged_model": swa.state_dict(), "step": 4}, OUT / "averaged.pt", **LEGACY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(model, (torch.randn(1, 3, 8, 8), torch.tensor([[6, 1, 7, 0]])), check_trace=False)
    script.save(str(OUT / "own_script.pt"))


def hugging_face():
    """Folders that transformers' `save_pretrained` writes: a CLIP in shards, one with another activation, a SigLIP."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, SiglipConfig, SiglipImageProcessor, SiglipModel

    tensors = {}

    def write(name, model, processor, tokens, **options):
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        model.eval().save_pretrained(folder, **options)
        processor.save_pretrained(folder)
        image = torch.randn(2, 3, 8, 8)
        with torch.no_grad():
            out = model(input_ids=tokens, pixel_values=image)
        tensors.update({f"{name}/input/image": image, f"{name}/input/text": tokens})
        tensors.update({f"{name}/image_features": out.image_embeds, f"{name}/text_features": out.text_embeds})

    torch.manual_seed(5)
    tower = dict(num_hidden_layers=1, num_attention_heads=2, hidden_size=8, intermediate_size=20)
    text = dict(vocab_size=12, max_position_embeddings=5, bos_token_id=9, pad_token_id=0)
    tokens = torch.tensor([[9, 3, 4, 11, 0], [9, 7, 1, 2, 11]])
    picture = dict(image_size=8, patch_size=4)
    clip = CLIPConfig(text_config=dict(**text, eos_token_id=11, **tower), vision_config=dict(**picture, **tower), projection_dim=4)
    processor = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4], resample=2)
    write("clip", CLIPModel(clip), processor, tokens, max_shard_size="4KB")
    gelu = CLIPConfig(
        text_config=dict(**text, eos_token_id=10, hidden_act="gelu", **tower), vision_config=dict(**picture, hidden_act="gelu", layer_norm_eps=1e-3, **tower), projection_dim=4
    )
    write("clip_gelu", CLIPModel(gelu), processor, torch.tensor([[9, 3, 4, 10, 11], [9, 7, 1, 10, 0]]))
    siglip = SiglipConfig(text_config=dict(**text, eos_token_id=11, **tower), vision_config=dict(**picture, **tower))
    write("siglip", SiglipModel(siglip), SiglipImageProcessor(size={"height": 8, "width": 8}), torch.tensor([[3, 4, 11, 1, 1], [7, 1, 2, 5, 11]]))
    save_file(tensors, OUT / "transformers.safetensors")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    opaque()
    numbers()
    trained()
    hugging_face()
    save_file(expected, OUT / "expected.safetensors")
    print(sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file()), "bytes")
