#!/usr/bin/env python3
"""`force_context_length` of upstream OpenCLIP, shorter and longer than a model's own: token rows, resized positions, features.

Under data/context/, for a native text tower, one of SigLIP and a RoBERTa:
  <case>.json           `model_cfg`, `captions`, `lengths`, and the folder under data/ with the `tokenizer`, where it is no CLIP's
  <case>.safetensors    weights/<key>; of CLIP's vocabulary only the vectors that are `used`, which are their ids
                        <length>/tokens, <length>/features (unit length), <length>/positions (the tower's, where it has some)

Needs `pip install open_clip_torch==3.3.0 transformers==5.23.0`.
"""

import json
import shutil
import tempfile
from pathlib import Path

import export_hftext
import open_clip
import torch
import upstream

DATA = Path(__file__).resolve().parent / "data"
LENGTHS = (6, 20)
CAPTIONS = ["a cat", "a photo of a very large red square on a table beside two small blue dogs and a tree", "x", "Hello, World!", ""]
VISION = {"image_size": 8, "patch_size": 4, "width": 4, "head_width": 4, "layers": 1}
TEXT = {"context_length": 12, "width": 4, "heads": 2, "layers": 1}
HF_SIZES = {
    "vocab_size": 401, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 10,
    "max_position_embeddings": 30, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
# Configuration of the text tower, folder of the tokenizer.
CASES = {
    "native": ({**TEXT, "vocab_size": 49408}, None),
    "siglip": (
        {
            **TEXT, "vocab_size": 60, "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "hf_tokenizer_name": "tokenizer",
            "tokenizer_kwargs": {"clean": "canonicalize"},
        },
        "siglip/tokenizer",
    ),
    "roberta": (
        {
            "context_length": 12, "hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base", "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler", "hf_model_config": HF_SIZES,
        },
        "tokens/roberta",
    ),
}  # fmt: skip


def export(name, text, tokenizer, seed):
    hf = "hf_model_name" in text
    config = {"embed_dim": 4, "custom_text": name != "native", "vision_cfg": VISION, "text_cfg": text}
    model = (export_hftext.FAMILY if hf else upstream).build(config, seed)
    tensors = upstream.weights(model)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        upstream.save(model.state_dict(), folder / "open_clip_model.safetensors")
        if tokenizer:
            shutil.copytree(DATA / tokenizer, folder, dirs_exist_ok=True)
        for length in LENGTHS:
            rows = open_clip.get_tokenizer(f"local-dir:{folder}", context_length=length)(CAPTIONS)
            # What upstream reads of a Hugging Face encoder is not in the folder, and its tower has no context.
            forced = model if hf else open_clip.create_model(f"local-dir:{folder}", force_context_length=length).eval()
            with torch.no_grad():
                tensors[f"{length}/features"] = forced.encode_text(rows, normalize=True)
            tensors[f"{length}/tokens"] = rows
            tower = forced.text if config["custom_text"] else forced
            if not hf:
                tensors[f"{length}/positions"] = tower.positional_embedding.detach()
    if name == "native":
        used = torch.cat([tensors[f"{length}/tokens"].flatten() for length in LENGTHS]).unique()
        tensors |= {"used": used, "weights/token_embedding.weight": tensors["weights/token_embedding.weight"][used]}
    output = DATA / "context"
    output.mkdir(exist_ok=True)
    upstream.save(tensors, output / f"{name}.safetensors")
    description = {"model_cfg": config, "captions": CAPTIONS, "lengths": LENGTHS, "tokenizer": tokenizer, "open_clip": open_clip.__version__}
    (output / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")
    print(name, {k: tuple(v.shape) for k, v in tensors.items() if not k.startswith("weights")})


if __name__ == "__main__":
    torch.set_num_threads(1)
    for seed, (name, case) in enumerate(CASES.items()):
        export(name, *case, 5000 + seed)
