"""Writes tests/parity/data/weights/: small checkpoints in every form that is read, and what PyTorch and OpenCLIP make of them.

    python tests/parity/export_weights.py

Needs open_clip_torch 3.3.0, torch 2.11, transformers 5. `expected.safetensors` holds, under `FILE/KEY`, the values PyTorch
itself sees as float32 for every file of the first part.
"""

import io
import json
import os
import pickle
import struct
import types
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import open_clip
import open_clip.model
import torch
from safetensors.torch import load_file, save_file
from torch import nn

OUT = Path(__file__).parent / "data" / "weights"
expected = {}


def base():
    torch.manual_seed(0)
    return OrderedDict(
        [
            ("visual.proj", torch.randn(4, 3)),
            ("ln_final.weight", torch.randn(5)),
            ("visual.conv1.weight", torch.randn(2, 3, 2, 2)),
            ("logit_scale", torch.tensor(2.5)),
            ("empty", torch.zeros(0, 3)),
        ]
    )


def expect(name, state):
    for key, tensor in state.items():
        expected[f"{name}/{key}"] = tensor.detach().float().contiguous().clone()


def save(name, value, state, **options):
    torch.save(value, OUT / name, **options)
    expect(name, state)


def state_dicts():
    state = base()
    save("zip.pt", state, state)
    for protocol in (4, 5):
        save(f"protocol{protocol}.pt", state, state, pickle_protocol=protocol)
    save("legacy.pt", state, state, _use_new_zipfile_serialization=False)
    for name, dtype in {"f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}.items():
        cast = OrderedDict((key, tensor.to(dtype)) for key, tensor in state.items())
        save(f"{name}.pt", cast, cast)
        save(f"{name}_legacy.pt", cast, cast, _use_new_zipfile_serialization=False)
        save_file(dict(cast), OUT / f"{name}.safetensors")
        expect(f"{name}.safetensors", cast)
    integers = OrderedDict(
        [
            ("i64", torch.tensor([-(2**40), 7])),
            ("i32", torch.tensor([-70000, 5], dtype=torch.int32)),
            ("i16", torch.tensor([-300, 300], dtype=torch.int16)),
            ("i8", torch.tensor([-128, 127], dtype=torch.int8)),
            ("u8", torch.tensor([0, 255], dtype=torch.uint8)),
            ("bool", torch.tensor([True, False])),
        ]
    )
    save("integers.pt", integers, integers)
    save_file(dict(integers), OUT / "integers.safetensors")
    expect("integers.safetensors", integers)

    wrapped = OrderedDict((f"module.{key}", tensor) for key, tensor in state.items())
    save("module.pt", wrapped, state)
    compiled = OrderedDict((f"module._orig_mod.{key}", tensor) for key, tensor in state.items())
    save("compiled.pt", compiled, state)
    parameters = OrderedDict((key, nn.Parameter(tensor)) for key, tensor in state.items())
    save("parameter.pt", parameters, state)
    save_file(dict(state), OUT / "metadata.safetensors", metadata={"format": "pt", "note": "kept"})
    expect("metadata.safetensors", state)

    # A training checkpoint as open_clip_train.main writes it, in a DistributedDataParallel run.
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "name": "2024_run",
        "state_dict": OrderedDict((f"module.{k}", v) for k, v in model.state_dict().items()),
        "optimizer": optimizer.state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
    }
    save("train.pt", checkpoint, model.state_dict())
    save("train_legacy.pt", checkpoint, model.state_dict(), _use_new_zipfile_serialization=False)

    whole = torch.arange(24, dtype=torch.float32)
    views = OrderedDict(
        [
            ("whole", whole),
            ("shared", whole.view(4, 6)),
            ("transposed", whole.view(4, 6).t()),
            ("permuted", whole.view(2, 3, 4).permute(2, 0, 1)),
            ("offset", whole[5:11]),
            ("strided", whole[1::5]),
            ("block", whole.view(4, 6)[1:3, 2:5]),
            ("expanded_once", whole[3:4].expand(1, 1)),
        ]
    )
    save("views.pt", views, views)
    save("views_legacy.pt", views, views, _use_new_zipfile_serialization=False)


def digest(state):
    """Per key its shape, its sum and a sum that depends on the order of the values."""
    rows = {}
    for key, tensor in state.items():
        flat = tensor.detach().double().flatten()
        place = torch.arange(flat.numel(), dtype=torch.float64) % 97 + 1
        rows[key] = [list(tensor.shape), flat.sum().item(), (flat * place).sum().item()]
    return rows


def openai():
    """A TorchScript archive as OpenAI's: a traced ViT CLIP with half-precision weights and constants beside them."""
    torch.manual_seed(1)
    model = open_clip.model.CLIP(
        embed_dim=16,
        vision_cfg=dict(image_size=8, layers=2, width=64, patch_size=4),
        text_cfg=dict(context_length=5, vocab_size=30, width=64, heads=1, layers=1),
        quick_gelu=True,
        output_dict=False,
    ).eval()
    # Plain attributes of OpenCLIP's class, entries of the state dict in OpenAI's archives.
    for name, value in {"input_resolution": 8, "context_length": 5, "vocab_size": 30}.items():
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, (torch.randn(1, 3, 8, 8), torch.randint(1, 30, (1, 5))), check_trace=False)
        traced = traced.half()
        traced.save(str(OUT / "openai.pt"))
        state = torch.jit.load(OUT / "openai.pt").state_dict()
    constants = {"input_resolution", "context_length", "vocab_size", "attn_mask"}
    assert constants - {"attn_mask"} <= set(state), sorted(state)
    state = {key: tensor for key, tensor in state.items() if key not in constants}
    # What is left is exactly what OpenCLIP's class saves.
    assert set(state) == set(model.state_dict()) - constants, set(state) ^ set(model.state_dict())
    (OUT / "openai.json").write_text(json.dumps(digest(state)))

    plain = open_clip.model.CLIP(
        embed_dim=16,
        vision_cfg=dict(image_size=8, layers=2, width=64, patch_size=4),
        text_cfg=dict(context_length=5, vocab_size=30, width=64, heads=1, layers=1),
        quick_gelu=True,
    ).eval()
    plain.load_state_dict({key: tensor.float() for key, tensor in state.items()})
    image = torch.randn(2, 3, 8, 8)
    tokens = torch.tensor([[28, 3, 29, 0, 0], [28, 7, 1, 2, 29]])
    with torch.no_grad():
        save_file(
            {
                "input/image": image,
                "input/text": tokens,
                "image_features": plain.encode_image(image),
                "text_features": plain.encode_text(tokens),
            },
            OUT / "openai_features.safetensors",
        )


def hugging_face():
    """A tiny CLIPModel, and the same weights in an OpenCLIP model that computes the same features."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(2)
    tower = dict(num_hidden_layers=2, num_attention_heads=2, hidden_size=8, intermediate_size=32, hidden_act="quick_gelu")
    config = CLIPConfig(
        text_config=dict(vocab_size=20, max_position_embeddings=6, bos_token_id=18, eos_token_id=19, pad_token_id=0, **tower),
        vision_config=dict(image_size=8, patch_size=4, **tower),
        projection_dim=4,
    )
    theirs = CLIPModel(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    state = {key: tensor.detach().clone() for key, tensor in theirs.state_dict().items()}
    # Older releases of transformers saved these constants.
    state["text_model.embeddings.position_ids"] = torch.arange(6)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(state, OUT / "hf.safetensors", metadata={"format": "pt"})

    ours = open_clip.model.CLIP(
        embed_dim=4,
        vision_cfg=dict(image_size=8, layers=2, width=8, head_width=4, patch_size=4),
        text_cfg=dict(context_length=6, vocab_size=20, width=8, heads=2, layers=2),
        quick_gelu=True,
    ).eval()

    def copy(target, source):
        assert target.shape == source.shape, (target.shape, source.shape)
        with torch.no_grad():
            target.copy_(source)

    def blocks(targets, sources):
        for target, source in zip(targets, sources, strict=True):
            attention = source.self_attn
            rows = target.attn.in_proj_weight.shape[0] // 3
            for i, part in enumerate((attention.q_proj, attention.k_proj, attention.v_proj)):
                copy(target.attn.in_proj_weight[i * rows : (i + 1) * rows], part.weight)
                copy(target.attn.in_proj_bias[i * rows : (i + 1) * rows], part.bias)
            for to, of in (
                (target.attn.out_proj, attention.out_proj),
                (target.ln_1, source.layer_norm1),
                (target.ln_2, source.layer_norm2),
                (target.mlp.c_fc, source.mlp.fc1),
                (target.mlp.c_proj, source.mlp.fc2),
            ):
                copy(to.weight, of.weight)
                copy(to.bias, of.bias)

    vision, text = theirs.vision_model, theirs.text_model
    copy(ours.visual.class_embedding, vision.embeddings.class_embedding)
    copy(ours.visual.conv1.weight, vision.embeddings.patch_embedding.weight)
    copy(ours.visual.positional_embedding, vision.embeddings.position_embedding.weight)
    copy(ours.token_embedding.weight, text.embeddings.token_embedding.weight)
    copy(ours.positional_embedding, text.embeddings.position_embedding.weight)
    for to, of in (
        (ours.visual.ln_pre, vision.pre_layrnorm),
        (ours.visual.ln_post, vision.post_layernorm),
        (ours.ln_final, text.final_layer_norm),
    ):
        copy(to.weight, of.weight)
        copy(to.bias, of.bias)
    blocks(ours.visual.transformer.resblocks, vision.encoder.layers)
    blocks(ours.transformer.resblocks, text.encoder.layers)
    copy(ours.visual.proj, theirs.visual_projection.weight.T)
    copy(ours.text_projection, theirs.text_projection.weight.T)
    copy(ours.logit_scale, theirs.logit_scale)
    image = torch.randn(2, 3, 8, 8)
    tokens = torch.tensor([[18, 3, 4, 19, 0, 0], [18, 7, 1, 2, 5, 19]])
    with torch.no_grad():
        a = theirs(input_ids=tokens, pixel_values=image)
        torch.testing.assert_close(ours.encode_image(image, normalize=True), a.image_embeds, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens, normalize=True), a.text_embeds, atol=1e-5, rtol=1e-5)
    features = {"image_features": a.image_embeds, "text_features": a.text_embeds}
    save_file({"input/image": image, "input/text": tokens, **features}, OUT / "hf_features.safetensors")
    state = {k: v.contiguous() for k, v in ours.state_dict().items() if "attn_mask" not in k}
    save_file(state, OUT / "hf_expected.safetensors")


def resize():
    """`open_clip.model.resize_pos_embed` and `resize_text_pos_embed` on random embeddings."""
    torch.manual_seed(3)
    cases = {}
    for side, grid in [(7, (16, 16)), (16, (7, 7)), (14, (24, 24)), (24, (14, 14)), (7, (5, 12)), (2, (9, 1)), (14, (7, 28))]:
        old = torch.randn(1 + side * side, 3)
        model = types.SimpleNamespace(visual=types.SimpleNamespace(grid_size=grid))
        state = {"visual.positional_embedding": old}
        open_clip.model.resize_pos_embed(state, model)
        name = f"image_{side}_to_{grid[0]}x{grid[1]}"
        cases[name + ".old"], cases[name + ".new"] = old, state["visual.positional_embedding"].contiguous().clone()
    for length, target in [(77, 32), (32, 77), (77, 77), (1, 4), (5, 1)]:
        old = torch.randn(length, 3)
        model = types.SimpleNamespace(positional_embedding=torch.zeros(target, 3))
        state = {"positional_embedding": old}
        open_clip.model.resize_text_pos_embed(state, model)
        name = f"text_{length}_to_{target}"
        cases[name + ".old"], cases[name + ".new"] = old, state["positional_embedding"].contiguous().clone()
    save_file(cases, OUT / "resize.safetensors")


def loading():
    """`open_clip.load_checkpoint` of two small checkpoints into models of other picture sizes, context lengths and text keys.

    load.json: {case: {"checkpoint", "model_cfg"}}; load.safetensors: CASE/{input/image, input/text, image_features,
    text_features[, logit_bias]}.
    """
    torch.manual_seed(4)
    # Every extent differs from every other, so that no shape fits by accident.
    vision = dict(image_size=12, patch_size=4, width=6, head_width=3, layers=1)
    text = dict(context_length=8, vocab_size=20, width=4, heads=2, layers=1)
    base = dict(embed_dim=5, vision_cfg=vision, text_cfg=text)

    def config(vision_cfg={}, text_cfg={}, **top):
        return {**base, **top, "vision_cfg": {**vision, **vision_cfg}, "text_cfg": {**text, **text_cfg}}

    def build(cfg):
        cfg = dict(cfg)
        kind = open_clip.CustomTextCLIP if cfg.pop("custom_text", False) else open_clip.CLIP
        return kind(**cfg).eval()

    root = build(base)
    custom = build({**base, "custom_text": True})
    for model in (root, custom):
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
    wrapped = OrderedDict((f"module.{key}", tensor) for key, tensor in root.state_dict().items())
    torch.save({"epoch": 2, "name": "run", "state_dict": wrapped}, OUT / "load_root.pt")
    save_file(custom.state_dict(), OUT / "load_custom.safetensors")
    cases = {
        "same": ("load_root.pt", config()),
        "larger_picture": ("load_root.pt", config(dict(image_size=22))),
        "smaller_picture": ("load_root.pt", config(dict(image_size=8))),
        "wide_picture": ("load_root.pt", config(dict(image_size=[12, 28]))),
        "longer_context": ("load_root.pt", config({}, dict(context_length=13))),
        "shorter_context": ("load_root.pt", config({}, dict(context_length=5))),
        "root_into_custom": ("load_root.pt", config(dict(image_size=20), dict(context_length=6), custom_text=True)),
        "custom": ("load_custom.safetensors", config(dict(image_size=[20, 8]), dict(context_length=11), custom_text=True)),
        "without_bias": ("load_root.pt", config(init_logit_bias=-10)),
    }
    tensors, listed = {}, {}
    for name, (checkpoint, cfg) in cases.items():
        model = build(cfg)
        open_clip.load_checkpoint(model, str(OUT / checkpoint))
        image = torch.randn(2, 3, *model.visual.image_size)
        tokens = torch.randint(1, 19, (2, cfg["text_cfg"]["context_length"]))
        tokens[0, 3:], tokens[0, 2], tokens[1, -1] = 0, 19, 19
        with torch.no_grad():
            features = {"image_features": model.encode_image(image), "text_features": model.encode_text(tokens)}
        tensors |= {f"{name}/input/image": image, f"{name}/input/text": tokens}
        tensors |= {f"{name}/{key}": value.contiguous() for key, value in features.items()}
        if model.logit_bias is not None:
            tensors[f"{name}/logit_bias"] = model.logit_bias.detach().clone()
        listed[name] = {"checkpoint": checkpoint, "model_cfg": cfg}
    save_file(tensors, OUT / "load.safetensors")
    (OUT / "load.json").write_text(json.dumps(listed, indent=1) + "\n")


class Evil:
    """Runs a command when it is unpickled by Python."""

    def __reduce__(self):
        return os.system, ("touch /tmp/openclip_pickle_was_executed",)


def archive(name, data, extra=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(OUT / name, "w", compression) as file:
        for member, content in [("archive/data.pkl", data), ("archive/version", b"3\n"), *extra]:
            # A fixed date keeps the file the same from run to run.
            file.writestr(zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0)), content, compress_type=compression)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def hostile():
    state = {"weight": torch.zeros(2), "payload": Evil()}
    torch.save(state, OUT / "evil_reduce.pt")
    torch.save(state, OUT / "evil_legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 1, "optimizer": Evil(), "state_dict": base()}, OUT / "evil_train.pt", pickle_protocol=4)
    (OUT / "evil_bare.pkl").write_bytes(pickle.dumps(Evil(), protocol=2))
    command = text("touch /tmp/openclip_pickle_was_executed")
    archive("evil_inst.pt", b"\x80\x02(" + command + b"ios\nsystem\n.")
    archive("evil_protocol0.pt", b"(S'touch /tmp/openclip_pickle_was_executed'\nios\nsystem\n.")
    archive("evil_newobj.pt", b"\x80\x02cos\nsystem\n" + command + b"\x85\x81.")
    archive("evil_build.pt", b"\x80\x02}" + b"cbuiltins\nexec\n" + text("x") + text("y") + b"sb.")
    archive("evil_stack_global.pt", b"\x80\x04" + text("os") + text("system") + b"\x93" + command + b"\x85R.")
    # A class of the archive's own code is data; a class of Python's is not, TorchScript or not.
    archive("evil_script.pt", b"\x80\x02csubprocess\nPopen\n)\x81.", [("archive/code/__torch__.py", b"")])

    tensor = lambda numel, offset, shape, strides, key="0": (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + integer(numel) + b"tQ"
        + integer(offset) + numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    )
    integer = lambda value: b"\x8a\x08" + struct.pack("<q", value)
    numbers = lambda values: b"(" + b"".join(map(integer, values)) + b"t"
    dict_of = lambda value: b"\x80\x02}" + text("weight") + value + b"s."
    data = [("archive/data/0", b"\0" * 16)]
    views = {
        "good": tensor(4, 0, [4], [1]),
        "numel": tensor(2**40, 0, [4], [1]),
        "negative_numel": tensor(-4, 0, [4], [1]),
        "offset": tensor(4, 1, [4], [1]),
        "negative_offset": tensor(4, -1, [2], [1]),
        "shape": tensor(4, 0, [5], [1]),
        "overflow": tensor(4, 0, [2**62, 4], [1, 1]),
        "negative_shape": tensor(4, 0, [-4], [1]),
        "strides": tensor(4, 0, [2, 2], [2**62, 1]),
        "expanded": tensor(4, 0, [2**40], [0]),
        "ranks": tensor(4, 0, [2, 2], [1]),
        "axes": tensor(4, 0, [1] * 9, [1] * 9),
        "no_data": tensor(4, 0, [4], [1], "7"),
    }
    for name, value in views.items():
        archive(f"view_{name}.pt", dict_of(value), data)
    # l = []; l.append(l), as a state dict's value and as a module tree.
    archive("cyclic.pt", b"\x80\x02}q\x00" + text("self") + b"h\x00s.")
    cyclic = b"\x80\x02c__torch__\nM\n)\x81q\x00}" + text("child") + b"h\x00sb."
    archive("cyclic_script.pt", cyclic, [("archive/code/__torch__.py", b"")])
    # 2^40 paths through 40 nested modules that each hold the next one twice.
    wide = b"\x80\x02c__torch__\nM\nq\x00)\x81q\x01"
    for _ in range(40):
        wide += b"h\x00)\x81}" + text("a") + b"h\x01s" + text("b") + b"h\x01sbq\x01"
    archive("wide_script.pt", wide + b".", [("archive/code/__torch__.py", b"")])
    archive("deep.pt", b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".")
    archive("bomb.pt", b"\0" * (8 << 20), compression=zipfile.ZIP_DEFLATED)
    archive("big_endian.pt", dict_of(views["good"]), [*data, ("archive/byteorder", b"big")])
    archive("no_tensor.pt", b"\x80\x02}" + text("epoch") + b"K\x01s.")
    with zipfile.ZipFile(OUT / "numpy.npz", "w") as file:
        buffer = io.BytesIO()
        buffer.write(b"\x93NUMPY")
        file.writestr(zipfile.ZipInfo("img/embedding/kernel.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue())


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for file in OUT.iterdir():
        file.unlink()
    state_dicts()
    openai()
    hugging_face()
    resize()
    loading()
    hostile()
    save_file(expected, OUT / "expected.safetensors")
    # PyTorch itself agrees with the table; none of these files is a hostile one.
    for name in {key.split("/")[0] for key in expected}:
        loaded = load_file(OUT / name) if name.endswith(".safetensors") else torch.load(OUT / name, weights_only=False)
        loaded = loaded.get("state_dict", loaded)
        for key, tensor in loaded.items():
            key = key.removeprefix("module.").removeprefix("_orig_mod.")
            torch.testing.assert_close(tensor.float(), expected[f"{name}/{key}"], rtol=0, atol=0)
    print(sum(file.stat().st_size for file in OUT.iterdir()), "bytes")
