#!/usr/bin/env python3
"""What CLIP_benchmark and pycocoevalcap measure, on small random models and sets made from scikit-learn's digits.

Outputs under data/clip_benchmark/:
  model.safetensors.gz, model.json   a random model; rows of the token embedding that no caption uses are zero
  digits.safetensors.gz   train/images, test/images u8 [N, 8, 8] with train/labels, test/labels: scikit-learn's digits
  wds.tar.gz              sets written by `clip_benchmark.webdataset_builder`: digits (classification), shapes (multilabel) and
                          scenes (retrieval)
  digits.parquet          the pictures of wds/digits as Hugging Face's `datasets` keeps them, with the names of the classes
  expected.json           metrics of `clip_benchmark.metrics`, without amp
    folder                  digits in one folder per class, with six classes in `few`
    wds                     each of the three sets, and the captions of scenes to be chosen from
    probe                   linear probes: five seeds with the weight decay searched on a fifth of the training part, and twenty with 8
                            pictures a class
  captions.json           captions with their tokens by `PTBTokenizer` and the scores of Bleu, Rouge and Cider

`accuracy()` of CLIP_benchmark fails on numpy 2.4, which makes no number of a list of one, and its probe asks for CUDA: both are
patched here, rule and all else as they stand.

Needs `pip install open_clip_torch==3.3.0 clip-benchmark==1.6.2 scikit-learn webdataset pyarrow pycocoevalcap` and Java.
"""

import gzip
import io
import json
import random
import re
import tarfile
import tempfile
import types
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import upstream
from clip_benchmark import webdataset_builder
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics import image_caption_selection, linear_probe, zeroshot_classification, zeroshot_retrieval
from PIL import Image
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from safetensors.torch import save
from sklearn.datasets import load_digits
from torchvision.datasets import ImageFolder

OUT = Path(__file__).resolve().parent / "data/clip_benchmark"
CONFIG = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 24, "patch_size": 8, "width": 64, "head_width": 16, "layers": 1, "pool_type": "avg"},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEMPLATES = ["a photo of the number {c}.", "{c}", "the digit {c}, written by hand"]
SHAPES = ["disc", "square", "stripe", "frame", "cross", "dot"]
SEEDS = {"search": 5, "few": 20}
SHOTS = 8


def accuracy(output, target, topk=(1,)):
    pred = output.topk(max(topk), 1, True, True)[1].t()
    correct = pred.eq(target.view(1, -1).expand_as(pred))
    return [correct[:k].reshape(-1).float().sum().item() / len(target) for k in topk]


def on_cpu():
    """The linear probe without CUDA."""
    source = Path(linear_probe.__file__).read_text()
    source = source.replace(".cuda()", "").replace("assert device == 'cuda'", "pass")
    module = types.ModuleType("clip_benchmark.metrics.linear_probe_on_cpu")
    module.__package__ = "clip_benchmark.metrics"
    exec(compile(source, linear_probe.__file__, "exec"), module.__dict__)
    module.accuracy = accuracy
    return module


def model():
    """With features that differ from picture to picture and from caption to caption."""
    torch.manual_seed(5)
    net = upstream.create(CONFIG, "clip-benchmark")
    upstream.perturb(net)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("visual.transformer") and "weight" in name and "ln" not in name:
                parameter.mul_(1.5)
            elif name == "visual.positional_embedding" or name.startswith(("token_embedding", "transformer.resblocks")) and "ln" not in name:
                parameter.mul_(3)
            elif name == "visual.conv1.weight":
                parameter.mul_(2)
    return net.eval()


def shape(kind, colour, rng):
    """A picture of 20 by 24 pixels."""
    y, x = np.mgrid[:20, :24]
    cx, cy, r = rng.uniform(8, 15), rng.uniform(7, 12), rng.uniform(4, 7)
    dx, dy = np.abs(x - cx), np.abs(y - cy)
    mask = {
        "disc": dx**2 + dy**2 < r**2,
        "square": (dx < r) & (dy < r),
        "stripe": dy < r / 2,
        "frame": (np.maximum(dx, dy) < r) & (np.maximum(dx, dy) > r - 2),
        "cross": (dx < 2) | (dy < 2),
        "dot": dx**2 + dy**2 < 5,
    }[kind]
    return mask, np.array(colour)


def scene(kinds, rng):
    picture = np.full((20, 24, 3), rng.uniform(0, 120, 3))
    for kind in kinds:
        mask, colour = shape(kind, rng.uniform(100, 255, 3), rng)
        picture[mask] = colour
    return Image.fromarray(picture.astype(np.uint8))


class Listed(list):
    """A data set of `webdataset_builder`."""


def write_wds(folder, sets):
    for name, (samples, kind) in sets.items():
        to_bytes = webdataset_builder.PIL_to_bytes("png")
        listed = Listed((to_bytes(image), found) for image, found in samples)
        place = str(folder / name)
        if kind == "retrieval":
            webdataset_builder.convert_retrieval_dataset(listed, "test", place, image_format="png", max_count=16, verbose=False)
            continue
        listed.classes = NAMES if kind == "classes" else SHAPES
        listed.templates = TEMPLATES
        webdataset_builder.convert_dataset(
            listed, "test", place, image_format="png", max_count=16, multilabel=kind == "many", verbose=False
        )


def pack(folder):
    """The folder as a tar that is the same on every machine."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            content = path.read_bytes()
            if path.suffix == ".tar":
                content = plain(content)
            info = tarfile.TarInfo(str(path.relative_to(folder)))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def plain(content):
    """An archive without times and users."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=raw, mode="w") as new:
        for member in old:
            info = tarfile.TarInfo(member.name)
            info.size = member.size
            new.addfile(info, old.extractfile(member))
    return raw.getvalue()


def write_parquet(sample):
    """As `Dataset.to_parquet` does with an `Image` and a `ClassLabel`."""
    to_bytes = webdataset_builder.PIL_to_bytes("png")
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = {"names": NAMES, "_type": "ClassLabel"}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": names}}}
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata={"huggingface": json.dumps(info)})
    rows = [{"image": {"bytes": to_bytes(picture), "path": None}, "label": label} for picture, label in sample]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), OUT / "digits.parquet", row_group_size=16)


def compress(name, content):
    (OUT / name).write_bytes(gzip.compress(content, 9, mtime=0))


def loader(dataset, size=16, collate=None):
    return torch.utils.data.DataLoader(dataset, batch_size=size, collate_fn=collate)


def write_folder(root, images, labels, names):
    for at, (image, label) in enumerate(zip(images, labels)):
        path = root / names[label] / f"{at:04}.pgm"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def classify(net, transform, tokenizer, root, names):
    """Digits in one folder per class, the folders named by their numbers."""
    dataset = ImageFolder(root, transform=transform)
    dataset.classes = names
    return zeroshot_classification.evaluate(net, loader(dataset), tokenizer, names, TEMPLATES, "cpu", amp=False)


def of_wds(net, transform, tokenizer, folder, name, kind):
    root = str(folder / name)
    dataset = build_dataset(f"wds/{name}", root=root, transform=transform, split="test", task=kind)
    batches = torch.utils.data.DataLoader(dataset.batched(16), batch_size=None)
    if kind == "zeroshot_retrieval":
        return zeroshot_retrieval.evaluate(net, batches, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])
    if kind == "image_caption_selection":
        return image_caption_selection.evaluate(net, batches, tokenizer, "cpu", amp=False)
    batches.dataset.classes = dataset.classes
    return zeroshot_classification.evaluate(net, batches, tokenizer, dataset.classes, dataset.templates, "cpu", amp=False)


def probes(net, transform, folder, names):
    """Linear probes on the features of one folder."""
    probe = on_cpu()
    train, test = (ImageFolder(folder / part, transform=transform) for part in ("train", "test"))
    found = {"search": [], "few": []}
    for kind, seeds in SEEDS.items():
        for seed in range(seeds):
            held = torch.utils.data.random_split(train, [0.8, 0.2], torch.Generator().manual_seed(seed))
            parts, k = {"search": (held, -1), "few": ((train, None), SHOTS)}[kind]
            torch.manual_seed(seed)
            with tempfile.TemporaryDirectory() as cache:
                metrics = probe.evaluate(
                    net, loader(parts[0]), loader(test), k, 16, 0, 0.1, 10, "model", seed, cache + "/f", "cpu",
                    val_dataloader=parts[1] and loader(parts[1]), amp=False,
                )
            found[kind].append(metrics)
    return found


# Captions of every kind of token that the tokenizer knows.
TRICKY = [
    "A man can't ride the horse's saddle; it's \"great\", isn't it?",
    "They're gonna go, you've gotta wanna see what we'd cannot do.",
    "Mr. Smith of the U.S. Army and Dr. Jones at 5 p.m. on St. Mary's St.",
    "A T-shirt for $5.99, 50% off! (really) [wow] {yes}",
    "Well-known state-of-the-art food: 1/2 cup, 3-1/2 inches, 10,000 people, 24/7.",
    "See http://example.com/foo?bar=1 and www.google.com, or write to me@example.com...",
    "dash - minus -- em — en – what?! no!!! yes... ok..",
    "A smiling face :) and a sad one :-( with a wink ;)",
    "AT&T and R&D, this & that, either and/or both, #1 and #hashtag of @user.",
    "No. 5 vs. no, etc. Fig. 3 of vol. 2, Jan. 5th at 2:30pm, 10am, 3.5kg, -5 degrees.",
    "“Smart quotes” and ‘single ones’, the '90s and 1980's, rock 'n' roll o'clock.",
    "A café in Zürich, 5'10\" tall, 10° cold, 50mm f/2 lens, 4x4 truck, iPhone6.",
    "A. However it is, the plan C. They know J. Smith and the K. he likes.",
    "two  spaces\tand a tab , a comma , and.no space",
    "sub-title: the end; x = y, a*b ** c ~ d | e \\ f / g <b>bold</b> &amp; 3 < 4",
    "",
    "!!!",
    "He lemme gimme d'ye y'all 'tis 'twas ain't DON'T O'Neil U.K.-based e.g. i.e. a.k.a. Ph.D.",
]
PEOPLE, THINGS = ["a man", "a woman", "two children", "a small dog", "the old fisherman"], ["a bike", "a red kite", "an umbrella", "a pizza"]
DOING, PLACES = ["holding", "looking at", "next to", "running with"], ["on the street", "at the beach", "in a park", "near some trees"]


def captions():
    rng = random.Random(4)

    def one():
        words = [rng.choice(list) for list in (PEOPLE, DOING, THINGS, PLACES)]
        text = " ".join(words[: rng.choice([3, 4, 4])])
        return text[0].upper() + text[1:] + rng.choice([".", "", " .", "!"])

    pairs = []
    for at in range(60):
        right = [one() for _ in range(rng.randint(1, 5))]
        written = rng.choice(right) if rng.random() < 0.3 else one()
        if at % 3 == 0:
            right[0] = TRICKY[(at // 3) % len(TRICKY)]
        if at % 7 == 0:
            written = TRICKY[(at // 7) % len(TRICKY)]
        pairs.append((written, right))
    # Every one once, so that tokens are compared whatever the scores do.
    pairs += [(text, [text, one()]) for text in TRICKY]
    return pairs


def scored(pairs):
    tokens = PTBTokenizer()
    # Behind an empty last line the tokenizer leaves none.
    res = tokens.tokenize({i: [{"caption": written}] for i, (written, _) in enumerate(pairs)})
    gts = tokens.tokenize({i: [{"caption": text} for text in right] for i, (_, right) in enumerate(pairs)})
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, rouges = Rouge().compute_score(gts, res)
    cider, ciders = Cider().compute_score(gts, res)
    rows = [
        {"written": w, "right": r, "tokens": [res[i][0], *gts[i]], "rouge": float(rouges[i]), "cider": float(ciders[i])}
        for i, (w, r) in enumerate(pairs)
    ]
    scores = {f"Bleu_{n + 1}": float(bleu[n]) for n in range(4)} | {"ROUGE_L": float(rouge), "CIDEr": float(cider)}
    return {"pairs": rows, "scores": scores}


def used_tokens(tokenizer, texts):
    return torch.unique(tokenizer(sorted(set(texts))))


def without_nan(value):
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    zeroshot_classification.accuracy = accuracy
    (OUT / "captions.json").write_text(json.dumps(scored(captions()), indent=1, ensure_ascii=False) + "\n")

    net, tokenizer = model(), open_clip.get_tokenizer("ViT-B-32", context_length=CONFIG["text_cfg"]["context_length"])
    transform = open_clip.image_transform(CONFIG["vision_cfg"]["image_size"], is_train=False)
    digits = load_digits()
    images = (digits.images * 15.9375).astype(np.uint8)
    parts = {"train": slice(0, 700), "test": slice(700, 1700)}
    rng = np.random.default_rng(6)

    scenes, shapes = [], []
    for at in range(40):
        kinds = [kind for kind in SHAPES if rng.random() < 0.35]
        shapes.append((scene(kinds, rng), torch.tensor([int(kind in kinds) for kind in SHAPES])))
        pair = rng.choice(SHAPES, 2, replace=False)
        texts = [f"a {pair[0]} and a {pair[1]}, {at}", f"picture {at} with a {pair[1]}", f"some {pair[0]} of {at}"]
        scenes.append((scene(pair, rng), texts[: 1 + at % 3]))
    sample = [(Image.fromarray(image), int(label)) for image, label in zip(images[:40], digits.target[:40])]
    sets = {"digits": (sample, "classes"), "shapes": (shapes, "many"), "scenes": (scenes, "retrieval")}
    # As many captions each, for the choice.
    choices = enumerate(zip(scenes, SHAPES * 7))
    choices = [(image, [texts[0], f"a {kind} alone, {at}", f"{kind}s of {at}"]) for at, ((image, texts), kind) in choices]
    sets["choices"] = (choices, "retrieval")

    prompts = [t.format(c=c) for t in TEMPLATES for c in NAMES + SHAPES]
    texts = prompts + [text for name in ("scenes", "choices") for _, list in sets[name][0] for text in list]
    used = used_tokens(tokenizer, texts)
    with torch.no_grad():
        kept = torch.zeros(CONFIG["text_cfg"]["vocab_size"], 1)
        kept[used] = 1
        net.token_embedding.weight.mul_(kept)

    write_parquet(sample)
    compress("model.safetensors.gz", save({k: v.contiguous() for k, v in net.state_dict().items()}))
    (OUT / "model.json").write_text(json.dumps(CONFIG) + "\n")
    arrays = {}
    for part, span in parts.items():
        arrays[f"{part}/images"] = torch.from_numpy(images[span])
        arrays[f"{part}/labels"] = torch.from_numpy(digits.target[span].astype(np.int64))
    compress("digits.safetensors.gz", save(arrays))

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_wds(folder / "wds", sets)
        compress("wds.tar.gz", pack(folder / "wds"))
        for part, span in parts.items():
            write_folder(folder / "digits" / part, images[span], digits.target[span], [str(n) for n in range(10)])
            few = digits.target[span] < 4
            write_folder(folder / "few" / part, images[span][few], digits.target[span][few], [str(n) for n in range(4)])
        expected = {
            "folder": {
                "digits": classify(net, transform, tokenizer, folder / "digits/test", NAMES),
                "few": classify(net, transform, tokenizer, folder / "few/test", NAMES[:4]),
            },
            "wds": {
                name: of_wds(net, transform, tokenizer, folder / "wds", name, kind)
                for name, kind in (
                    ("digits", "zeroshot_classification"),
                    ("shapes", "zeroshot_classification"),
                    ("scenes", "zeroshot_retrieval"),
                    ("choices", "image_caption_selection"),
                )
            },
            "probe": probes(net, transform, folder / "digits", NAMES),
            "versions": {**upstream.VERSIONS, **{name: version(name) for name in ("clip-benchmark", "pycocoevalcap", "scikit-learn")}},
        }
    (OUT / "expected.json").write_text(json.dumps(without_nan(expected), indent=1) + "\n")


if __name__ == "__main__":
    main()
