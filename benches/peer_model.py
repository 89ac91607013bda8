#!/usr/bin/env python3
"""The other side of the model benchmark: OpenCLIP on PyTorch. Prints one line of JSON.

Measures image encoding (no gradient) and one whole training step (both towers, loss, backward, AdamW) on random input;
each figure is the median over --steps after --warmup. Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import contextlib
import json
import statistics
import time

import open_clip
import torch


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "amp_bf16", "pure_bf16"), default="fp32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--only", choices=("encode", "train"))
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument(
        "--tf32", action="store_true", help="allow TF32 matrix products on CUDA, as open_clip_train does"
    )
    return parser.parse_args()


def measure(step, args) -> float:
    """Median seconds of one call."""
    seconds = []
    for i in range(args.warmup + args.steps):
        start = time.perf_counter()
        step()
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        if i >= args.warmup:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    torch.manual_seed(0)
    kind = torch.device(args.device).type
    low = torch.bfloat16 if args.precision == "pure_bf16" else torch.float32
    autocast = torch.autocast(kind, torch.bfloat16) if args.precision == "amp_bf16" else contextlib.nullcontext()

    model = open_clip.create_model(args.model, precision=args.precision, device=args.device, output_dict=True)
    height, width = open_clip.model.to_2tuple(model.visual.image_size)
    image = torch.randn(args.batch, 3, height, width, device=args.device, dtype=low)
    text = torch.randint(1, model.vocab_size - 2, (args.batch, model.context_length), device=args.device)
    text[:, -1] = model.vocab_size - 1
    if args.compile:
        model = torch.compile(model)

    result = {
        "model": args.model, "device": args.device, "precision": args.precision, "batch": args.batch,
        "threads": args.threads, "compile": args.compile, "torch": torch.__version__, "open_clip": open_clip.__version__,
    }  # fmt: skip
    if kind == "cuda":
        result["gpu"] = torch.cuda.get_device_name()

    if args.only != "train":
        model.eval()

        @torch.inference_mode()
        def encode():
            with autocast:
                model.encode_image(image)

        seconds = measure(encode, args)
        result |= {"encode_s": seconds, "encode_images_per_s": args.batch / seconds}

    if args.only != "encode":
        model.train()
        named = list(model.named_parameters())
        plain = {n for n, p in named if p.ndim < 2 or any(w in n for w in ("bn", "ln", "bias", "logit_scale"))}
        groups = [
            {"params": [p for n, p in named if n in plain], "weight_decay": 0.0},
            {"params": [p for n, p in named if n not in plain], "weight_decay": 0.2},
        ]
        optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
        loss = open_clip.ClipLoss()

        def train():
            optimizer.zero_grad()
            with autocast:
                total = loss(**model(image, text))
            total.backward()
            optimizer.step()

        seconds = measure(train, args)
        result |= {"train_step_s": seconds, "train_samples_per_s": args.batch / seconds}
        if kind == "cuda":
            result["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
