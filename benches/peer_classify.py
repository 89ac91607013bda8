#!/usr/bin/env python3
"""The other side of `openclip classify`: OpenCLIP's README snippet on a local weight file. Prints one line of JSON.

  peer_classify.py --create ViT-B-32.safetensors          writes a random ViT-B-32 to time both sides with
  peer_classify.py --weights ViT-B-32.safetensors --image cat.jpg --text "a cat" "a dog"

"seconds" runs from the start of the process to the answer. Needs `pip install open_clip_torch==3.3.0`.
"""

import time

ENTERED = time.time()

import argparse
import json
import os
from pathlib import Path


def process_age() -> float:
    """Seconds since this process was started; without /proc, since its first line of Python."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except OSError:
        return time.time() - ENTERED


def create(model_name: str, path: str) -> None:
    import open_clip
    from safetensors.torch import save_file

    model = open_clip.create_model(model_name)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)


def classify(args) -> dict:
    import open_clip
    import torch
    from PIL import Image

    if args.threads:
        torch.set_num_threads(args.threads)
    model, _, preprocess = open_clip.create_model_and_transforms(args.model, pretrained=args.weights)
    model.eval()
    tokenizer = open_clip.get_tokenizer(args.model)
    image = torch.stack([preprocess(Image.open(path)) for path in args.image])
    text = tokenizer(args.text)
    with torch.no_grad():
        image_features = model.encode_image(image)
        text_features = model.encode_text(text)
        image_features /= image_features.norm(dim=-1, keepdim=True)
        text_features /= text_features.norm(dim=-1, keepdim=True)
        probabilities = (100.0 * image_features @ text_features.T).softmax(dim=-1)
    labels = [
        {"image": path, "labels": [{"text": t, "prob": p} for t, p in zip(args.text, row)]}
        for path, row in zip(args.image, probabilities.tolist())
    ]
    return {"result": labels, "seconds": round(process_age(), 3), "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--create", metavar="FILE")
    parser.add_argument("--weights")
    parser.add_argument("--image", nargs="+")
    parser.add_argument("--text", nargs="+", default=["a diagram", "a dog", "a cat"])
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.create:
        create(args.model, args.create)
    elif args.weights and args.image:
        print(json.dumps(classify(args)))
    else:
        parser.error("give --create FILE, or --weights FILE and --image FILE …")


if __name__ == "__main__":
    main()
