"""Writes pixels.safetensors: encoded pictures of every kind and the u8 pixels that open_clip makes of them.

    python tests/parity/export_pixels.py            # needs open_clip_torch 3.3.0, Pillow, scikit-image

Tensors: `file/<picture>` holds the encoded bytes, `eval/<picture>/<mode>/<filter>/<h>x<w>` the result of
`image_transform(is_train=False)` before `ToTensor`, `pilrgb/<picture>` the same for webdataset's order (RGB before
resizing, shortest/bicubic) where the picture is not RGB, `crop/<left>_<top>_<width>_<height>` torchvision's `resized_crop` of
`jpeg_420`, and `jitter/<operation>/<factor>` its colour operations on `eval/jpeg_420/squash/bicubic/41x33`.
"""

import io
from pathlib import Path

import numpy as np
import torchvision.transforms.functional as F
from open_clip.transform import image_transform
from PIL import Image
from safetensors.numpy import save_file
from skimage import data
from torchvision.transforms import InterpolationMode

OUT = Path(__file__).parent / "data" / "pixels.safetensors"
VIEWS = [
    (mode, kind, size)
    for mode, size in (("shortest", (32, 32)), ("shortest", (28, 36)), ("longest", (32, 32)), ("squash", (32, 32)))
    for kind in ("bicubic", "bilinear")
]
# A picture of every kind of pixels and of other shapes is seen in every way, the others differ from them in their decoding alone.
EVERY_VIEW = (
    "jpeg_420", "jpeg_420_tall", "jpeg_cmyk", "png_small", "png_exact", "png_grey", "png_rgba", "png_rgba_tall", "png_rgba_exact", "png_la",
    "png_palette", "png_palette_transparent", "png_16bit", "png_16bit_tall", "png_1bit",
)  # fmt: skip
FEW_VIEWS = [("shortest", "bicubic", (28, 36)), ("squash", "bilinear", (32, 32))]


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures():
    photo = Image.fromarray(data.astronaut()).crop((101, 20, 232, 117))  # 131 x 97, odd and not square
    tall = Image.fromarray(data.chelsea()).crop((60, 0, 157, 291)).resize((71, 203), 3)
    grey = photo.convert("L")
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, photo.width)[None].repeat(photo.height, 0)
    alpha = np.clip(ramp + rng.normal(0, 60, ramp.shape), 0, 255).astype(np.uint8)
    alpha[15:45, 20:60] = 0
    alpha[50:80, 70:110] = 255
    rgba = photo.copy()
    rgba.putalpha(Image.fromarray(alpha))
    la = grey.copy()
    la.putalpha(Image.fromarray(alpha))
    palette = photo.quantize(60)
    wide = np.asarray(grey).astype(np.uint16) * 257 + rng.integers(0, 200, alpha.shape, dtype=np.uint16)
    small = photo.resize((31, 23), 3)
    part = photo.crop((20, 20, 71, 57))

    for name, sampling in [("444", 0), ("422", 1), ("420", 2)]:
        yield f"jpeg_{name}", encoded(photo, "JPEG", quality=88, subsampling=sampling)
    yield "jpeg_420_tall", encoded(tall, "JPEG", quality=75, subsampling=2)
    yield "jpeg_progressive", encoded(photo, "JPEG", quality=80, progressive=True)
    yield "jpeg_grey", encoded(grey, "JPEG", quality=85)
    yield "jpeg_cmyk", encoded(photo.convert("CMYK"), "JPEG", quality=85)
    yield "jpeg_restart", encoded(photo, "JPEG", quality=70, restart_marker_blocks=3)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "jpeg_rotated", encoded(photo, "JPEG", quality=70, exif=exif)
    yield "png_rgb", encoded(photo, "PNG")
    yield "png_small", encoded(small, "PNG")
    yield "png_rgba_tall", encoded(rgba.crop((50, 0, 71, 97)), "PNG")
    yield "png_exact", encoded(photo.resize((32, 32), 3), "PNG")
    yield "png_grey", encoded(grey, "PNG")
    yield "png_rgba", encoded(rgba, "PNG")
    yield "png_rgba_exact", encoded(rgba.resize((32, 32), 3), "PNG")
    yield "png_la", encoded(la, "PNG")
    yield "png_palette", encoded(palette, "PNG")
    yield "png_palette_small", encoded(small.quantize(12), "PNG")
    yield "png_palette_transparent", encoded(palette, "PNG", transparency=3)
    yield "png_palette_4bit", encoded(photo.quantize(13), "PNG", bits=4)
    yield "png_16bit", encoded(Image.fromarray(wide), "PNG")
    yield "png_16bit_tall", encoded(Image.fromarray(wide[:, 30:61]), "PNG")
    yield "png_16bit_dark", encoded(Image.fromarray((wide // 200).astype(np.uint16)), "PNG")
    yield "png_1bit", encoded(photo.convert("1"), "PNG")
    yield "png_rgb_key", encoded(part, "PNG", transparency=(10, 20, 30))
    yield "png_rgb16", png16(np.asarray(part))
    yield "gif", encoded(palette, "GIF")
    yield "gif_transparent", encoded(palette, "GIF", transparency=5)
    yield "gif_grey", encoded(part.convert("L"), "GIF")
    yield "gif_animated", encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)])
    yield "webp_lossy", encoded(photo, "WEBP", quality=80)
    yield "webp_lossless", encoded(part, "WEBP", lossless=True)
    yield "webp_alpha", encoded(rgba, "WEBP", lossless=True, exact=True)
    yield "bmp_rgb", encoded(part, "BMP")
    yield "bmp_grey", encoded(part.convert("L"), "BMP")
    yield "tiff_rgb", encoded(part, "TIFF", compression="tiff_lzw")
    yield "tiff_grey", encoded(part.convert("L"), "TIFF")
    yield "ppm", encoded(small, "PPM")
    yield "pgm", encoded(small.convert("L"), "PPM")


def png16(pixels):
    """A 16-bit RGB PNG, which Pillow reads but does not write."""
    import struct
    import zlib

    height, width, _ = pixels.shape
    wide = pixels.astype(">u2") * 256 + np.arange(width, dtype=">u2")[None, :, None] % 256
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def planes(image):
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def transformed(image, mode, filter_name, size):
    steps = image_transform(size, is_train=False, resize_mode=mode, interpolation=filter_name).transforms
    for step in steps[:-2]:  # without ToTensor and Normalize
        image = step(image)
    return planes(image)


def main():
    tensors = {}
    for name, blob in pictures():
        tensors[f"file/{name}"] = np.frombuffer(blob, dtype=np.uint8)
        image = Image.open(io.BytesIO(blob))
        print(name, image.mode, image.size, len(blob))
        for mode, kind, size in VIEWS if name in EVERY_VIEW else FEW_VIEWS:
            view = transformed(Image.open(io.BytesIO(blob)), mode, kind, size)
            tensors[f"eval/{name}/{mode}/{kind}/{size[0]}x{size[1]}"] = view
        if image.mode != "RGB":
            tensors[f"pilrgb/{name}"] = transformed(image.convert("RGB"), "shortest", "bicubic", (32, 32))

    photo = Image.open(io.BytesIO(tensors["file/jpeg_420"].tobytes()))
    for left, top, width, height in [(0, 0, 131, 97), (13, 7, 110, 85), (40, 30, 31, 57), (130, 96, 1, 1)]:
        crop = F.resized_crop(photo, top, left, height, width, [41, 33], InterpolationMode.BICUBIC)
        tensors[f"crop/{left}_{top}_{width}_{height}"] = planes(crop)

    view = Image.fromarray(transformed(photo, "squash", "bicubic", (41, 33)).transpose(1, 2, 0))
    tensors["jitter/none/0"] = planes(view)
    for factor in (0.0, 0.37, 0.9, 1.0, 1.3, 2.2):
        tensors[f"jitter/brightness/{factor}"] = planes(F.adjust_brightness(view, factor))
        tensors[f"jitter/contrast/{factor}"] = planes(F.adjust_contrast(view, factor))
        tensors[f"jitter/saturation/{factor}"] = planes(F.adjust_saturation(view, factor))
    for turns in (-0.5, -0.21, -0.003, 0.0, 0.1, 0.499):
        tensors[f"jitter/hue/{turns}"] = planes(F.adjust_hue(view, turns))
    tensors["jitter/grayscale/0"] = planes(F.rgb_to_grayscale(view, 3))

    OUT.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT)
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    main()
