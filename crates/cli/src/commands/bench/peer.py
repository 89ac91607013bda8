"""The other side of `openclip bench --peer`: OpenCLIP on PyTorch, as its documentation tells people to call it.

`serve` reads one line of JSON for each measurement and answers with one; `classify`, `encode` and `train` are what takes a
process of its own. Settings come in OPENCLIP_PEER. Needs `pip install open_clip_torch`.
"""

import contextlib
import json
import os
import resource
import sys
import time

SETTINGS = json.loads(os.environ["OPENCLIP_PEER"])
DEVICE = SETTINGS["device"]
# What is measured may print; the answers go where standard output went.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def torch():
    import torch

    torch.set_num_threads(SETTINGS["threads"])
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    return torch


def answer(value):
    ANSWERS.write(json.dumps(value) + "\n")
    ANSWERS.flush()


def timed(step):
    start = time.perf_counter()
    step()
    if DEVICE == "cuda":
        torch().cuda.synchronize()
    return time.perf_counter() - start


def mean(step):
    """Mean over the repetitions that fill the least seconds; each step gives its own seconds."""
    total, count = 0.0, 0
    while total < SETTINGS["least_seconds"]:
        total += step()
        count += 1
    return total / count


class Model:
    """One model that encodes and trains on random input."""

    def __init__(self, name):
        import open_clip

        self.torch = torch()
        precision = SETTINGS["precision"]
        self.model = open_clip.create_model(name, precision=precision, device=DEVICE, output_dict=True)
        self.low = self.torch.bfloat16 if precision == "pure_bf16" else self.torch.float32
        self.autocast = contextlib.nullcontext
        if precision == "amp_bf16":
            self.autocast = lambda: self.torch.autocast(DEVICE, self.torch.bfloat16)
        self.loss = open_clip.ClipLoss()
        self.size = open_clip.model.to_2tuple(self.model.visual.image_size)
        self.optimizer = None

    def images(self, count):
        return self.torch.randn(count, 3, *self.size, device=DEVICE, dtype=self.low)

    def texts(self, count, length=None):
        model = self.model
        length = length or model.context_length
        tokens = self.torch.randint(1, model.vocab_size - 2, (count, model.context_length), device=DEVICE)
        tokens[:, length - 1] = model.vocab_size - 1
        tokens[:, length:] = 0
        return tokens

    def encode(self, method, value):
        self.model.eval()
        with self.torch.inference_mode(), self.autocast():
            return mean(lambda: timed(lambda: method(value)))

    def start_training(self):
        self.model.train()
        if self.optimizer is None:
            named = list(self.model.named_parameters())
            plain = {n for n, p in named if p.ndim < 2 or any(w in n for w in ("bn", "ln", "bias", "logit_scale"))}
            groups = [
                {"params": [p for n, p in named if n in plain], "weight_decay": 0.0},
                {"params": [p for n, p in named if n not in plain], "weight_decay": 0.2},
            ]
            self.optimizer = self.torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6, fused=True)

    def train(self, count, length=None):
        self.start_training()
        images, texts = self.images(count), self.texts(count, length)

        def step():
            self.optimizer.zero_grad()
            with self.autocast():
                total = self.loss(**self.model(images, texts))
            total.backward()
            self.optimizer.step()

        return mean(lambda: timed(step))

    def update(self):
        self.start_training()
        for parameter in self.model.parameters():
            parameter.grad = parameter.detach().clone()
        return mean(lambda: timed(self.optimizer.step))


def loss(pairs):
    """Both directions in tiles of 2²⁴ logits, whose graph is given up tile by tile."""
    t = torch()
    tile = max(1, (1 << 24) // pairs)
    sides = [t.nn.functional.normalize(t.randn(pairs, SETTINGS["width"], device=DEVICE), dim=-1) for _ in range(2)]
    sides = [side.requires_grad_() for side in sides]
    labels = t.arange(pairs, device=DEVICE)

    def step():
        for side in sides:
            side.grad = None
        for rows, columns in (sides, sides[::-1]):
            for first in range(0, pairs, tile):
                logits = 14.0 * rows[first : first + tile] @ columns.T
                part = t.nn.functional.cross_entropy(logits, labels[first : first + tile], reduction="sum")
                (part / (2 * pairs)).backward()

    return mean(lambda: timed(step))


def loader(folder):
    """Decode, transform and normalise every picture, as open_clip's evaluation transform does."""
    import open_clip
    from PIL import Image

    torch()
    transform = open_clip.image_transform(224, is_train=False)
    files = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    return mean(lambda: timed(lambda: [transform(Image.open(path)) for path in files])) / len(files)


def tokenizer(path):
    """From a cold word cache: every measurement has a tokenizer of its own."""
    import open_clip

    with open(path, encoding="utf-8") as file:
        captions = file.read().splitlines()
    tokenize = open_clip.SimpleTokenizer()
    blocks = [captions[i : i + 1000] for i in range(0, len(captions), 1000)]
    return timed(lambda: [tokenize(block) for block in blocks]) / len(captions)


def measure(ask, cache):
    work, name, size = ask["work"], ask["model"], ask["size"]
    if work == "loss":
        cache.clear()
        return loss(size)
    if work == "loader":
        return loader(ask["pictures"])
    if work == "tokenizer":
        return tokenizer(ask["captions"])
    if name not in cache:
        cache.clear()
        cache[name] = Model(name)
    model = cache[name]
    if work in ("images", "images_int8"):
        return model.encode(model.model.encode_image, model.images(size))
    if work == "texts":
        return model.encode(model.model.encode_text, model.texts(size))
    if work == "short_texts":
        return model.encode(model.model.encode_text, model.texts(size, SETTINGS["short"]))
    if work in ("train", "short_train"):
        return model.train(size, SETTINGS["caption"] if work == "short_train" else None)
    return model.update()


def serve():
    import open_clip

    t = torch()
    gpu = f", {t.cuda.get_device_name()}" if DEVICE == "cuda" else ""
    answer({"versions": f"open_clip {open_clip.__version__} on PyTorch {t.__version__}{gpu}"})
    cache = {}
    for line in sys.stdin:
        try:
            answer({"figure": measure(json.loads(line), cache)})
        except Exception as error:  # One row fails, the table goes on.
            answer({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})


def classify(name, weights, picture):
    import open_clip
    from PIL import Image

    t = torch()
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=weights, device=DEVICE)
    model.eval()
    image = preprocess(Image.open(picture)).unsqueeze(0).to(DEVICE)
    text = open_clip.get_tokenizer(name)(["a diagram", "a dog", "a cat"]).to(DEVICE)
    with t.no_grad():
        images, texts = model.encode_image(image), model.encode_text(text)
        images /= images.norm(dim=-1, keepdim=True)
        texts /= texts.norm(dim=-1, keepdim=True)
        print((100.0 * images @ texts.T).softmax(dim=-1).tolist())


def memory(what, name, size):
    # Once each time.
    SETTINGS["least_seconds"] = 1e-9
    model = Model(name)
    for _ in range(2):
        if what == "train":
            model.train(size)
        else:
            model.encode(model.model.encode_image, model.images(size))
    answer({"figure": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})


def main():
    what, *rest = sys.argv[1:]
    if what == "serve":
        serve()
    elif what == "classify":
        classify(rest[0], rest[2], rest[3])
    else:
        memory(what, rest[0], int(rest[1]))


main()
