#!/usr/bin/env python3
"""Training, schedule, parameter groups, zero-shot and retrieval as upstream OpenCLIP computes them.

Outputs under data/training/ (a .json describes each .safetensors of the same name):
  adamw          10 steps of upstream's own `train_one_epoch`
  accumulation   the gradient of one batch of 12, and upstream's accumulation of 3 x 4
  patch_dropout  features with dropped patches, of a picture whose patches are all alike
  schedules      learning-rate tables of `open_clip_train.scheduler`
  groups         which parameters AdamW decays, by the rule of `open_clip_train.main`
  zeroshot       classifier weights, logits and top-1/top-5 of the model of models/vit_plain
  retrieval      `get_clip_metrics` on features with and without ties

Needs `pip install open_clip_torch==3.3.0 pandas webdataset`.
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import open_clip
import torch
from export_models import CASES, FAMILY
from open_clip_train import scheduler
from open_clip_train import train as upstream_train
from upstream import build, captions, excluded_from_decay, in_bytes, pixels, save

DATA = Path(__file__).resolve().parent / "data"
VERSIONS = {"torch": torch.__version__.split("+")[0], "open_clip": open_clip.__version__}


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps({**content, **VERSIONS}, indent=1) + "\n")


def snapshot(model) -> dict:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def adamw(model, lr: float, wd: float, betas: tuple, eps: float) -> torch.optim.AdamW:
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if excluded_from_decay(n, p)], "weight_decay": 0.0},
        {"params": [p for n, p in named if not excluded_from_decay(n, p)], "weight_decay": wd},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)


class Run:
    """Drives `train_one_epoch` on fixed batches and records what it computes on the way."""

    def __init__(self, model, batches, optimizer=None, schedule=None, clip=None, accum=1):
        self.losses, self.norms, self.scales, self.lrs = [], [], [], []
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        loader = SimpleNamespace(num_batches=len(batches), num_samples=sum(len(b[0]) for b in batches))
        loader_type = type("Loader", (), {"__iter__": lambda _: iter(batches), **vars(loader)})
        data = {"train": SimpleNamespace(dataloader=loader_type(), set_epoch=lambda epoch: None)}
        args = SimpleNamespace(
            device="cpu", precision="fp32", distill=False, accum_freq=accum, skip_scheduler=schedule is None,
            horovod=False, grad_clip_norm=clip, world_size=1, rank=0, log_every_n_steps=100, wandb=False,
            batch_size=len(batches[0][0]), log_local=False, distributed=False,
        )  # fmt: skip
        clip_grad_norm = torch.nn.utils.clip_grad_norm_
        torch.nn.utils.clip_grad_norm_ = lambda p, n, **kw: self.norms.append(float(clip_grad_norm(p, n, **kw)))
        try:
            upstream_train.train_one_epoch(model, data, self.loss, 0, self, None, schedule, None, args)
        finally:
            torch.nn.utils.clip_grad_norm_ = clip_grad_norm

    def loss(self, **inputs):
        losses = open_clip.ClipLoss()(**inputs)
        self.losses.append(float(losses["contrastive_loss"].detach()))
        return losses

    # What `train_one_epoch` asks of an optimizer.
    @property
    def param_groups(self):
        return self.optimizer.param_groups if self.optimizer else [{"lr": 0.0}]

    def zero_grad(self):
        self.model.zero_grad()

    def step(self):
        self.gradients = {n: p.grad.clone() for n, p in self.model.named_parameters()}
        if self.optimizer:
            self.lrs.append(self.optimizer.param_groups[0]["lr"])
            self.optimizer.step()
        self.scales.append(float(self.model.logit_scale.detach()))


def batches(config: dict, count: int, size: int) -> list:
    side, text = config["vision_cfg"]["image_size"], config["text_cfg"]
    return [
        (pixels(size, 3, side, side), captions(size, text["context_length"], text["vocab_size"], None))
        for _ in range(count)
    ]


def export_adamw(output: Path) -> None:
    """Ten steps with warm-up, cosine, clipping and decay; then the clamp of the logit scale at both ends."""
    config = {
        **CASES["vit_plain"]["config"],
        "vision_cfg": {
            "image_size": 12,
            "patch_size": 6,
            "width": 12,
            "head_width": 6,
            "layers": 2,
            "ls_init_value": 0.1,
        },
    }
    # The clip threshold lies between the gradient norms of the steps, so that some are clipped and some are not.
    hyper = {
        "lr": 2e-3,
        "wd": 0.2,
        "beta1": 0.9,
        "beta2": 0.98,
        "eps": 1e-6,
        "warmup": 3,
        "total_steps": 10,
        "grad_clip_norm": 4.0,
    }
    model = build(config, 2000)
    steps = batches(config, 10, 8)
    start = snapshot(model)
    tensors = {f"weights/{k}": v for k, v in start.items()}
    for i, (image, text) in enumerate(steps):
        tensors |= {f"input/image.{i}": in_bytes(image), f"input/text.{i}": text}

    def optimizer():
        return adamw(model, hyper["lr"], hyper["wd"], (hyper["beta1"], hyper["beta2"]), hyper["eps"])

    adam = optimizer()
    run = Run(model, steps, adam, scheduler.cosine_lr(adam, hyper["lr"], hyper["warmup"], 10), hyper["grad_clip_norm"])
    final = snapshot(model)
    tensors |= {f"final/{k}": v for k, v in final.items()}
    for name, parameter in model.named_parameters():
        state = adam.state[parameter]
        tensors |= {f"exp_avg/{name}": state["exp_avg"], f"exp_avg_sq/{name}": state["exp_avg_sq"]}

    clamped = []
    for first in (4.7, -0.05):
        model.load_state_dict(start)
        with torch.no_grad():
            model.logit_scale.fill_(first)
        once = optimizer()
        one = Run(model, steps[:1], once, scheduler.const_lr(once, 1e-3, 0, 1), hyper["grad_clip_norm"])
        clamped.append(
            {
                "logit_scale_before": first,
                "lr": 1e-3,
                "loss": one.losses[0],
                "logit_scale_after": float(model.logit_scale.detach()),
            }
        )

    # The same ten steps in f64: the floor of any tolerance on the final weights.
    double = build(config, 2000).double()
    double.load_state_dict(start)
    exact = adamw(double, hyper["lr"], hyper["wd"], (hyper["beta1"], hyper["beta2"]), hyper["eps"])
    check = Run(
        double,
        [(i.double(), t) for i, t in steps],
        exact,
        scheduler.cosine_lr(exact, hyper["lr"], hyper["warmup"], 10),
        hyper["grad_clip_norm"],
    )
    apart = {k: (final[k] - v).abs() for k, v in double.state_dict().items()}
    # The loss does not depend on the bias of the attention keys: its gradient is rounding noise, which Adam scales up.
    keys = [d.chunk(3)[1] for k, d in apart.items() if k.endswith("in_proj_bias")]
    for k in [k for k in apart if k.endswith("in_proj_bias")]:
        query, _, value = apart[k].chunk(3)
        apart[k] = torch.cat([query, value])

    save(tensors, output / "adamw.safetensors")
    write_json(
        output / "adamw.json",
        {
            "model_cfg": config,
            "hyperparameters": hyper,
            "batch_size": 8,
            "per_step": {
                "lr": run.lrs,
                "loss": run.losses,
                "grad_norm_before_clipping": run.norms,
                "logit_scale_before_clamp": run.scales,
            },
            "clamp": clamped,
            "f32_against_f64": {
                "final_weights_abs_without_key_bias": max(float(d.max()) for d in apart.values()),
                "final_key_bias_abs": max(float(d.max()) for d in keys),
                "loss_abs": max(abs(a - b) for a, b in zip(run.losses, check.losses)),
                "weights_moved_by_at_most": max(float((final[k] - v).abs().max()) for k, v in start.items()),
            },
        },
    )


def export_accumulation(output: Path) -> None:
    """Gradient of 12 pairs at once and of 3 x 4 with upstream's accumulation.

    Upstream multiplies the gradient of logit_scale by the number of micro-batches (each of the 3 passes sees the whole
    loss); all other gradients agree with the large batch, which is the reference.
    """
    config = CASES["vit_plain"]["config"]
    model = build(config, 2001)
    ((image, text),) = batches(config, 1, 12)
    whole = Run(model, [(image, text)])
    split = Run(model, list(zip(image.chunk(3), text.chunk(3))), accum=3)
    scale = split.gradients["logit_scale"] / whole.gradients["logit_scale"]
    relative = {
        n: float((split.gradients[n] - g).abs().max() / g.abs().max())
        for n, g in whole.gradients.items()
        if n != "logit_scale"
    }
    tensors = {f"weights/{k}": v for k, v in model.state_dict().items()}
    tensors |= {"input/image": in_bytes(image), "input/text": text}
    tensors |= {f"grad/{k}": v for k, v in whole.gradients.items()}
    save(tensors, output / "accumulation.safetensors")
    write_json(
        output / "accumulation.json",
        {
            "model_cfg": config,
            "batch_size": 12,
            "micro_batches": 3,
            "loss": whole.losses[0],
            "upstream_accumulation": {
                "logit_scale_gradient_factor": float(scale),
                "max_relative_difference_of_the_others": max(relative.values()),
            },
        },
    )


def export_patch_dropout(output: Path) -> None:
    """Training mode, where the patches of a picture and their positions are alike: only the number that is kept matters."""
    tensors, cases = {}, []
    for i, (side, share) in enumerate(((9, 0.5), (12, 0.75), (9, 0.99), (15, 0.1), (12, 0.3))):
        vision = {"image_size": side, "patch_size": 3, "width": 8, "head_width": 4, "layers": 1, "patch_dropout": share}
        text = {"context_length": 2, "vocab_size": 4, "width": 2, "heads": 1, "layers": 1}
        config = {"embed_dim": 6, "vision_cfg": vision, "text_cfg": text}
        model = build(config, 2100 + i).train()
        with torch.no_grad():
            model.visual.positional_embedding[1:] = model.visual.positional_embedding[1]
            image = pixels(3, 3, 3, 3).tile(side // 3, side // 3)
            tensors |= {f"{i}/weights/{k}": v for k, v in model.state_dict().items()}
            tensors |= {f"{i}/input/image": in_bytes(image), f"{i}/image_features": model.encode_image(image)}
        cases.append(config)
    save(tensors, output / "patch_dropout.safetensors")
    write_json(output / "patch_dropout.json", {"cases": cases})


def export_schedules(output: Path) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    tables = []
    for lr, warmup, steps in ((5e-4, 5, 20), (1e-3, 0, 12), (1e-3, 30, 20), (3e-4, 1, 7), (5e-4, 20, 20)):
        if warmup != steps:
            cosine = scheduler.cosine_lr(optimizer, lr, warmup, steps)
            tables.append(
                {
                    "scheduler": "cosine",
                    "lr": lr,
                    "warmup": warmup,
                    "steps": steps,
                    "table": [cosine(s) for s in range(steps)],
                }
            )
        const = scheduler.const_lr(optimizer, lr, warmup, steps)
        tables.append(
            {
                "scheduler": "const",
                "lr": lr,
                "warmup": warmup,
                "steps": steps,
                "table": [const(s) for s in range(steps)],
            }
        )
        for cooldown, power, end in ((6, 1.0, 0.0), (4, 2.0, 1e-5), (7, 0.5, 1e-6)):
            rule = scheduler.const_lr_cooldown(optimizer, lr, warmup, steps, cooldown, power, end)
            tables.append({
                "scheduler": "const-cooldown", "lr": lr, "warmup": warmup, "steps": steps, "cooldown_steps": cooldown,
                "cooldown_power": power, "cooldown_end": end, "table": [rule(s) for s in range(steps)],
            })  # fmt: skip
    write_json(output / "schedules.json", {"tables": tables})


def export_groups(output: Path) -> None:
    models = {}
    for name in ("ViT-B-32", "ViT-M-16-alt", "ViT-L-14-CLIPA"):
        config = open_clip.get_model_config(name)
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        with torch.device("meta"):
            named = list(kind(**config).named_parameters())
        models[name] = {
            "no_decay": sorted(n for n, p in named if excluded_from_decay(n, p)),
            "decay": sorted(n for n, p in named if not excluded_from_decay(n, p)),
        }
    write_json(output / "groups.json", {"models": models})


def export_zeroshot(output: Path, models: Path) -> None:
    """Seven classes in four templates; a caption's tokens come from a toy vocabulary (start 62, end 63)."""
    config = CASES["vit_plain"]["config"]
    model = FAMILY.stored("vit_plain", models, seed=1000)
    classes = ["cat", "dog", "tree", "red car", "house", "old boat", "bird"]
    templates = ["a photo of a {}.", "{}", "a bad drawing of the {}.", "many {}s"]
    words = sorted({w for c in classes for t in templates for w in t.format(c).split()})
    ids = {w: 3 + i for i, w in enumerate(words)}
    assert len(words) < 58
    context = config["text_cfg"]["context_length"]
    seen, tokens = [], []

    def tokenizer(texts: list[str]) -> torch.Tensor:
        rows = torch.zeros(len(texts), context, dtype=torch.int64)
        for row, text in zip(rows, texts):
            sequence = [62, *(ids[w] for w in text.split()), 63]
            row[: len(sequence)] = torch.tensor(sequence)
        seen.extend(texts)
        tokens.append(rows)
        return rows

    classifier = open_clip.build_zero_shot_classifier(model, tokenizer, classes, templates, num_classes_per_batch=3)
    torch.manual_seed(2002)
    image = pixels(24, 3, *model.visual.image_size)
    target = torch.randint(0, len(classes), (24,))
    with torch.no_grad():
        logits = 100.0 * model(image=image)["image_features"] @ classifier
    target[:8] = logits[:8].argmax(dim=1)
    # As `open_clip_train.zero_shot.accuracy`, which numpy 2.4 no longer runs.
    hits = logits.topk(5, dim=1).indices == target[:, None]
    top1, top5 = (int(hits[:, :k].sum()) / len(target) for k in (1, 5))
    tensors = {
        "input/image": in_bytes(image),
        "input/target": target,
        "input/text": torch.cat(tokens),
        "output/classifier": classifier,
        "output/logits": logits,
    }
    save(tensors, output / "zeroshot.safetensors")
    write_json(
        output / "zeroshot.json",
        {
            "model_case": "vit_plain",
            "classes": classes,
            "templates": templates,
            "texts": seen,
            "top1": top1,
            "top5": top5,
        },
    )


def by_lower_index(logits: torch.Tensor) -> list[int]:
    """Rank of the matching column in each row when equal scores keep the order of their columns."""
    order = torch.argsort(logits, dim=1, descending=True, stable=True)
    return [int((row == i).nonzero()) for i, row in enumerate(order)]


def stable_metrics(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> dict:
    """`get_clip_metrics` with a stable sort. 3.3.0 sorts in no defined order among ties; later upstream ranks the lower index first."""
    argsort = torch.argsort
    torch.argsort = lambda x, **options: argsort(x, stable=True, **options)
    try:
        return {k: float(v) for k, v in upstream_train.get_clip_metrics(image, text, scale).items()}
    finally:
        torch.argsort = argsort


def export_retrieval(output: Path) -> None:
    """Features of the tie cases are small multiples of 1/4, so that their products are exact on every device."""
    torch.manual_seed(2003)
    features = {}
    image = torch.nn.functional.normalize(torch.randn(150, 16), dim=1)
    features["random"] = (image, torch.nn.functional.normalize(image + 0.35 * torch.randn(150, 16), dim=1))
    image = torch.randint(-2, 3, (60, 6)) / 4
    text = image.clone()
    text[::3] = torch.randint(-2, 3, (20, 6)) / 4
    image[10:16], text[20:30], text[41] = image[10], text[20], 0.0
    features["ties"] = (image, text)
    features["all_equal"] = (torch.full((7, 4), 0.5), torch.full((7, 4), 0.5))
    features["even_median"] = (torch.eye(4) / 2, torch.eye(4)[[1, 0, 3, 2]] / 2)
    features["single"] = (torch.ones(1, 4) / 2, torch.ones(1, 4) / 2)

    tensors, cases = {}, {}
    for name, (image, text) in features.items():
        tensors |= {f"{name}/image_features": image, f"{name}/text_features": text}
        scale = torch.tensor(8.0)
        unstable = {k: float(v) for k, v in upstream_train.get_clip_metrics(image, text, scale).items()}
        logits = scale * image @ text.T
        cases[name] = {
            "metrics": stable_metrics(image, text, scale),
            "ranks": {"image_to_text": by_lower_index(logits), "text_to_image": by_lower_index(logits.T.contiguous())},
            "metrics_of_3_3_0_with_unstable_sort": unstable,
        }
    save(tensors, output / "retrieval.safetensors")
    write_json(output / "retrieval.json", {"logit_scale": 8.0, "cases": cases})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DATA / "training")
    parser.add_argument("--models", type=Path, default=DATA / "models", help="what export_models.py wrote")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    export_adamw(args.output)
    export_accumulation(args.output)
    export_patch_dropout(args.output)
    export_schedules(args.output)
    export_groups(args.output)
    export_zeroshot(args.output, args.models)
    export_retrieval(args.output)
    for path in sorted(args.output.iterdir()):
        print(f"{path.name:28} {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
