"""Writes augmentation.safetensors and augmentation.json: what timm's training transform, as open_clip calls it, made of one picture.

    python tests/parity/export_augmentation.py      # needs open_clip_torch 3.3.0, timm, Pillow; after export_pixels.py

`cases` of the JSON are views of `jpeg_420` of pixels.safetensors: what chance decided (crop as left, top, width and height,
filter, colour operations in order, erased rectangles as left, top, width and height). The tensors are `out/<case>`, the
normalised view [3, 24, 20], and `noise/<case>/<rectangle>`, what random erasing wrote. `quantiles` of the JSON hold the
distributions of 20,000 draws: 21 quantiles of a number, or the frequencies of a choice.
"""

import io
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import timm.data.random_erasing as erasing
import timm.data.transforms as crops
import torch
from open_clip.transform import image_transform
from PIL import Image
from safetensors.numpy import load_file, save_file
from torchvision.transforms import ColorJitter

DATA = Path(__file__).parent / "data"
DRAWS = 20_000
NAMES = ("brightness", "contrast", "saturation", "hue")


class Recorder:
    """Notes what the parts of timm's transform draw."""

    def __init__(self):
        self.clear()
        recorder = self
        get_params = crops.RandomResizedCropAndInterpolation.get_params

        def crop(img, scale, ratio):
            top, left, height, width = found = get_params(img, scale, ratio)
            recorder.crop = [left, top, width, height]
            return found

        crops.RandomResizedCropAndInterpolation.get_params = staticmethod(crop)
        functional, resized_crop = crops.F, crops.F.resized_crop

        class Functional:
            """torchvision's functions, of which the crop tells its filter."""

            def __getattr__(self, name):
                return getattr(functional, name)

            def resized_crop(self, img, i, j, h, w, size, interpolation):
                recorder.filter = interpolation.value
                return resized_crop(img, i, j, h, w, size, interpolation)

        crops.F = Functional()
        jitter = ColorJitter.get_params

        def colours(*args):
            order, *factors = found = jitter(*args)
            named = [(NAMES[i], factors[i]) for i in order.tolist()]
            recorder.jitter = [[name, factor] for name, factor in named if factor is not None]
            return found

        ColorJitter.get_params = staticmethod(colours)
        pixels = erasing._get_pixels

        def noise(per_pixel, rand_color, size, **options):
            found = pixels(per_pixel, rand_color, size, **options)
            top, left = recorder.whole[-2:]
            recorder.erased.append([left, top, size[2], size[1]])
            recorder.noise.append(found.numpy().copy())
            return found

        erasing._get_pixels = noise

        class Chance:
            """Python's random numbers, of which the whole ones are noted."""

            def __getattr__(self, name):
                return getattr(random, name)

            def randint(self, low, high):
                recorder.whole.append(random.randint(low, high))
                return recorder.whole[-1]

        erasing.random = Chance()

    def clear(self):
        self.crop, self.filter, self.jitter = None, None, []
        self.erased, self.noise, self.whole = [], [], []


def main():
    random.seed(0)
    torch.manual_seed(0)
    recorder = Recorder()
    picture = Image.open(io.BytesIO(load_file(DATA / "pixels.safetensors")["file/jpeg_420"].tobytes()))
    picture.load()
    tensors, cases = {}, []
    for options, interpolation in [
        ({"scale": (0.3, 1.0)}, "bilinear"),
        ({"scale": (0.9, 1.0), "ratio": (0.5, 2.0), "color_jitter": 0.4}, "bicubic"),
        ({"scale": (0.3, 1.0), "color_jitter": (0.4, 0.3, 0.5)}, "random"),
        ({"scale": (0.3, 1.0), "color_jitter": (0.4, 0.4, 0.4, 0.1)}, "random"),
        ({"scale": (0.3, 1.0), "re_prob": 1.0}, "bicubic"),
        ({"scale": (0.3, 1.0), "color_jitter": 0.2, "re_prob": 1.0, "re_count": 4}, "random"),
    ]:
        transform = image_transform((24, 20), True, interpolation=interpolation, aug_cfg={"use_timm": True, **options})
        recorder.clear()
        name = str(len(cases))
        tensors[f"out/{name}"] = transform(picture).numpy()
        for i, noise in enumerate(recorder.noise):
            tensors[f"noise/{name}/{i}"] = noise
        cases.append(
            {"crop": recorder.crop, "filter": recorder.filter, "jitter": recorder.jitter, "erased": recorder.erased}
        )

    aug_cfg = {"use_timm": True, "scale": (0.08, 1.0), "color_jitter": (0.4, 0.4, 0.4, 0.1), "re_prob": 0.25, "re_count": 3}
    transform = image_transform((32, 48), True, interpolation="random", aug_cfg=aug_cfg)
    numbers, choices = {}, {}
    for _ in range(DRAWS):
        recorder.clear()
        transform(picture)
        for key, value in zip(("left", "top", "width", "height"), recorder.crop):
            numbers.setdefault(f"crop {key}", []).append(value)
        choices.setdefault("filter", Counter())[recorder.filter] += 1
        choices.setdefault("first colour operation", Counter())[recorder.jitter[0][0]] += 1
        for key, value in recorder.jitter:
            numbers.setdefault(key, []).append(value)
        choices.setdefault("erased rectangles", Counter())[str(len(recorder.erased))] += 1
        for rectangle in recorder.erased:
            for key, value in zip(("left", "top", "width", "height"), rectangle):
                numbers.setdefault(f"erased {key}", []).append(value)
    quantiles = {key: np.quantile(values, np.linspace(0, 1, 21)).round(5).tolist() for key, values in numbers.items()}
    frequencies = {key: {k: n / DRAWS for k, n in sorted(counts.items())} for key, counts in choices.items()}
    save_file(tensors, DATA / "augmentation.safetensors")
    result = {"cases": cases, "quantiles": quantiles, "frequencies": frequencies}
    (DATA / "augmentation.json").write_text(json.dumps(result) + "\n")
    print(json.dumps(cases), frequencies)


if __name__ == "__main__":
    main()
