#!/usr/bin/env python3
"""What CoCa writes in OpenCLIP 2.29.0, the last release with a beam search that runs, of small random models.

Under data/coca/:
  captions.json           of each model its `model_cfg` and of each of its `runs` the settings and the token ids of the `captions`
  captions.safetensors    <model>/weights/<key>, <model>/image, and <model>/{text,logits}, caption logits at every position

`--models COUNT --output DIR` makes more of them, for the ignored test `coca::captions::random_captions`.
Needs `pip install open_clip_torch==2.29.0 transformers==4.44.2`, which has the beam search of that time.
"""

import argparse
import json
import random
from pathlib import Path

import open_clip
import torch
import upstream
from export_coca import FAMILY, NO_POOL, case
from open_clip.coca_model import CoCa


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
def export(output, count):
    """Captions of random models; the weights are large, so that the logits are far apart and some captions end early."""
    assert open_clip.__version__ == "2.29.0", open_clip.__version__
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
        image = upstream.pixels(3, 3, 18, 18)
        runs = []
        for _ in range(3):
            chosen = settings(draw, 14)
            captions = model.generate(image, **ids, **chosen)
            runs.append({**chosen, "captions": captions.tolist()})
        # `generate` puts a beam search's model into no particular mode, a sampler's back into this one.
        model.eval()
        text = torch.randint(0, 22, (3, 14))
        text[0, 6:] = 0
        found = {**upstream.weights(model), "image": upstream.in_bytes(image), "text": text, "logits": model(image, text)["logits"]}
        tensors |= upstream.prefixed(str(seed), found)
        cases.append({"model_cfg": config, "runs": runs})
    upstream.save(tensors, output / "captions.safetensors")
    (output / "captions.json").write_text(json.dumps(cases) + "\n")
    lengths = [len(c) for case in cases for run in case["runs"] for c in run["captions"]]
    ends = sum(23 in c[:-1] for case in cases for run in case["runs"] for c in run["captions"])
    print(f"{len(lengths)} captions, {ends} end before the last place")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FAMILY.data)
    parser.add_argument("--models", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    export(args.output, args.models)
