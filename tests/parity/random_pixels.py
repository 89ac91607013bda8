"""Writes random pictures of every kind and what Pillow and open_clip make of them, for the ignored tests of pixels.rs.

    python tests/parity/random_pixels.py --count 400 --seed 1 --out /tmp/random.safetensors
    OPENCLIP_PIXELS=/tmp/random.safetensors cargo test --release -p openclip-tests --test data -- --ignored pixels

Tensors as those of export_pixels.py, and: `eval/...` and `pilrgb/...` of random sizes, `crop/<picture>/<region>/<h>x<w>`
for the training crop, `damaged/<picture>` for a file that was cut or had bytes changed, with the RGB pixels that
Pillow still gives under `pixels/<picture>`, or without them where Pillow refuses. cjpeg (libjpeg-turbo) adds samplings
and arithmetic coding when it is installed.
"""

import argparse
import io
import shutil
import struct
import subprocess
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import tifffile
import torchvision.transforms.functional as F
from PIL import Image
from safetensors.numpy import save_file
from skimage import data
from torchvision.transforms import InterpolationMode

from export_pixels import encoded, planes, transformed

warnings.simplefilter("ignore")
PHOTOS = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]


def picture(rng):
    """An RGB photograph, gradient or noise of a random size."""
    shape = rng.choice(["tiny", "thin", "small", "middle", "large"], p=[0.1, 0.1, 0.4, 0.3, 0.1])
    if shape == "tiny":
        width, height = rng.integers(1, 9, 2)
    elif shape == "thin":
        width, height = rng.permutation([rng.integers(1, 4), rng.integers(20, 900)])
    else:
        width, height = rng.integers(9, {"small": 120, "middle": 400, "large": 1100}[shape], 2)
    kind = rng.choice(["photo", "gradient", "noise"], p=[0.7, 0.15, 0.15])
    if kind == "noise":
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    if kind == "gradient":
        x, y = np.linspace(0, 255, width)[None], np.linspace(0, 255, height)[:, None]
        planes = [x + 0 * y, y + 0 * x, (x + y) * rng.uniform(0.2, 0.5)]
        return Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8))
    photo = Image.fromarray(PHOTOS[rng.integers(len(PHOTOS))])
    if width < photo.width and height < photo.height and rng.random() < 0.5:
        left, top = rng.integers(0, photo.width - width), rng.integers(0, photo.height - height)
        return photo.crop((left, top, left + width, top + height))
    return photo.resize((width, height), Image.Resampling.BICUBIC)


def with_alpha(image, rng):
    alpha = rng.choice(["noise", "ramp", "binary"])
    shape = (image.height, image.width)
    if alpha == "noise":
        values = rng.integers(0, 256, shape)
    elif alpha == "ramp":
        values = np.linspace(0, 255, image.width)[None].repeat(image.height, 0)
    else:
        values = 255 * (rng.random(shape) < 0.6)
    image = image.copy()
    image.putalpha(Image.fromarray(values.astype(np.uint8)))
    return image


def wide(image, rng):
    """16-bit samples of a grey or colour picture."""
    pixels = np.asarray(image).astype(np.uint16)
    if rng.random() < 0.3:
        return pixels
    return pixels * 257 ^ rng.integers(0, 256, pixels.shape, dtype=np.uint16)


def png(pixels, bits, color, extra=(), interlaced=False):
    """A PNG of any depth and interlacing, filter 0; Pillow writes only some of them."""
    height, width = pixels.shape[:2]

    def rows(part):
        out = b""
        for row in part:
            if bits == 16:
                out += b"\0" + row.astype(">u2").tobytes()
            elif bits == 8:
                out += b"\0" + row.astype(np.uint8).tobytes()
            else:
                digits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
                out += b"\0" + np.packbits(digits).tobytes()
        return out

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    if interlaced:
        parts = [pixels[top::down, left::right] for top, left, down, right in passes]
        body = b"".join(rows(part) for part in parts if part.size)
    else:
        body = rows(pixels)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


def cjpeg(image, rng):
    options = ["-quality", str(rng.integers(5, 100)), "-sample", str(rng.choice(["1x1", "2x1", "1x2", "2x2", "4x1", "4x2", "1x4", "3x1", "2x2,1x2,2x1"]))]
    options += [str(o) for o in rng.choice(["-arithmetic", "-progressive", "-optimize", "-baseline"], 1)]
    options += ["-restart", "1"] if rng.random() < 0.3 else []
    with tempfile.NamedTemporaryFile(suffix=".ppm") as file:
        image.save(file.name)
        run = subprocess.run(["cjpeg", *options, file.name], capture_output=True)
    return run.stdout or None


def jpeg(image, rng):
    kind = rng.choice(["rgb", "rgb", "grey", "cmyk", "ycck", "keep_rgb", "exif", "cjpeg", "cjpeg", "bare"])
    options = {"quality": int(rng.integers(1, 101)), "progressive": bool(rng.random() < 0.3)}
    if rng.random() < 0.2:
        options["restart_marker_blocks"] = int(rng.integers(1, 9))
    if kind == "cjpeg" and shutil.which("cjpeg"):
        blob = cjpeg(image, rng)
        return kind, blob or encoded(image, "JPEG")
    if kind == "grey":
        return kind, encoded(image.convert("L"), "JPEG", **options)
    if kind == "keep_rgb":
        return kind, encoded(image, "JPEG", keep_rgb=True, **options)
    if kind in ("cmyk", "ycck"):
        blob = encoded(image.convert("CMYK"), "JPEG", **options)
        if kind == "ycck":
            at = blob.find(b"Adobe")
            blob = blob[: at + 11] + b"\2" + blob[at + 12 :]
        return kind, blob
    options["subsampling"] = int(rng.integers(0, 3))
    if kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(2, 9))
        options["exif"] = exif
    blob = encoded(image, "JPEG", **options)
    if kind == "bare" and blob[2:4] == b"\xff\xe0":  # no JFIF marker: the components' numbers tell the colour space
        blob = blob[:2] + blob[4 + struct.unpack(">H", blob[4:6])[0] :]
    return kind, blob


def any_png(image, rng):
    kind = rng.choice(["rgb", "rgba", "la", "grey", "1", "p", "p_alpha", "p_alphas", "p_bits", "grey16", "rgb16", "rgba16", "la16", "grey2", "grey4", "key", "grey_key", "apng", "adam7"])
    grey = image.convert("L")
    colors = int(rng.integers(2, 257))
    if kind == "rgb":
        return kind, encoded(image, "PNG")
    if kind == "rgba":
        return kind, encoded(with_alpha(image, rng), "PNG")
    if kind == "la":
        return kind, encoded(with_alpha(grey, rng), "PNG")
    if kind == "grey":
        return kind, encoded(grey, "PNG")
    if kind == "1":
        return kind, encoded(image.convert("1"), "PNG")
    if kind == "p":
        return kind, encoded(image.quantize(colors), "PNG")
    if kind == "p_alpha":
        return kind, encoded(image.quantize(colors), "PNG", transparency=int(rng.integers(0, colors)))
    if kind == "p_alphas":
        return kind, encoded(image.quantize(colors), "PNG", transparency=bytes(rng.integers(0, 256, 5).astype(np.uint8)))
    if kind == "p_bits":
        bits = int(rng.choice([1, 2, 4]))
        return kind, encoded(image.quantize(2**bits), "PNG", bits=bits)
    if kind == "key":
        return kind, encoded(image, "PNG", transparency=image.getpixel((0, 0)))
    if kind == "grey_key":
        return kind, encoded(grey, "PNG", transparency=grey.getpixel((0, 0)))
    if kind == "apng":
        other = image.rotate(180)
        return kind, encoded(image, "PNG", save_all=True, append_images=[other], default_image=bool(rng.random() < 0.5))
    interlaced = bool(rng.random() < 0.4)
    if kind == "grey16":
        return kind, png(wide(grey, rng), 16, 0, interlaced=interlaced)
    if kind == "rgb16":
        return kind, png(wide(image, rng), 16, 2, interlaced=interlaced)
    if kind == "la16":
        return kind, png(wide(with_alpha(grey, rng), rng), 16, 4, interlaced=interlaced)
    if kind == "rgba16":
        return kind, png(wide(with_alpha(image, rng), rng), 16, 6, interlaced=interlaced)
    if kind in ("grey2", "grey4"):
        bits = int(kind[-1])
        return kind, png(np.asarray(grey) >> (8 - bits), bits, 0, interlaced=interlaced)
    choice = rng.integers(0, 4)
    if choice == 0:
        return kind, png(np.asarray(image), 8, 2, interlaced=True)
    if choice == 1:
        return kind, png(np.asarray(with_alpha(image, rng)), 8, 6, interlaced=True)
    if choice == 2:
        return kind, png(np.asarray(grey) >> 7, 1, 0, interlaced=True)
    palette = image.quantize(16)
    body = bytes(palette.getpalette())[:48].ljust(48, b"\0")
    return kind, png(np.asarray(palette), 4, 3, extra=[(b"PLTE", body)], interlaced=True)


def gif(image, rng):
    kind = rng.choice(["p", "transparent", "grey", "animated", "offset", "1"])
    palette = image.quantize(int(rng.integers(2, 257)))
    options = {"interlace": bool(rng.random() < 0.5)}
    if kind == "transparent":
        options["transparency"] = int(rng.integers(0, 256))
    if kind == "grey":
        return kind, encoded(image.convert("L"), "GIF", **options)
    if kind == "1":
        return kind, encoded(image.convert("1"), "GIF", **options)
    if kind == "animated":
        return kind, encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)], **options)
    blob = encoded(palette, "GIF", **options)
    if kind == "offset":  # a larger screen than the frame, with the frame at (3, 2)
        at = blob.find(b",\0\0\0\0")
        if at > 0:
            screen = struct.pack("<HH", image.width + 7, image.height + 5)
            blob = blob[:6] + screen + blob[10 : at + 1] + struct.pack("<HH", 3, 2) + blob[at + 5 :]
    return kind, blob


def webp(image, rng):
    kind = rng.choice(["lossy", "lossy", "lossless", "lossy_alpha", "lossless_alpha", "animated"])
    options = {"quality": int(rng.integers(1, 101)), "method": int(rng.integers(0, 5))}
    if kind.startswith("lossless"):
        options["lossless"] = True
    if kind.endswith("alpha"):
        image = with_alpha(image, rng)
        options["exact"] = bool(rng.random() < 0.5)
    if kind == "animated":
        options |= {"save_all": True, "append_images": [image.rotate(180)]}
    return kind, encoded(image, "WEBP", **options)


def tiff(image, rng):
    kind = rng.choice(["rgb", "grey", "1", "p", "p4", "la", "rgba", "cmyk", "grey16", "grey16be", "rgb16", "jpeg", "fax", "float", "int32", "planar", "tiled", "predictor", "miniswhite", "big"])
    grey = image.convert("L")
    compression = [None, "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits"][rng.integers(0, 5)]
    options = {"compression": compression} if compression else {}
    simple = {"rgb": image, "grey": grey, "1": image.convert("1"), "p": image.quantize(int(rng.integers(2, 257))), "cmyk": image.convert("CMYK")}
    if kind in simple:
        return kind, encoded(simple[kind], "TIFF", **options)
    if kind == "p4":
        return kind, encoded(image.quantize(16), "TIFF", **options)
    if kind == "la":
        return kind, encoded(with_alpha(grey, rng), "TIFF", **options)
    if kind == "rgba":
        return kind, encoded(with_alpha(image, rng), "TIFF", **options)
    if kind == "grey16":
        return kind, encoded(Image.fromarray(wide(grey, rng)), "TIFF", **options)
    if kind == "jpeg":
        return kind, encoded(image, "TIFF", compression="jpeg", quality=int(rng.integers(20, 96)))
    if kind == "fax":
        return kind, encoded(image.convert("1"), "TIFF", compression=str(rng.choice(["group3", "group4"])))
    if kind == "float":
        return kind, encoded(Image.fromarray(np.asarray(grey).astype(np.float32) * 1.1 - 5), "TIFF")
    if kind == "int32":
        return kind, encoded(Image.fromarray(np.asarray(grey).astype(np.int32) * 2 - 50), "TIFF")
    buffer = io.BytesIO()
    rgb = np.asarray(image)
    if kind == "grey16be":
        tifffile.imwrite(buffer, wide(grey, rng), byteorder=">")
    elif kind == "rgb16":
        tifffile.imwrite(buffer, wide(image, rng), photometric="rgb", byteorder=str(rng.choice(["<", ">"])))
    elif kind == "planar":
        tifffile.imwrite(buffer, rgb.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate")
    elif kind == "tiled":
        tifffile.imwrite(buffer, rgb, photometric="rgb", tile=(16, 32))
    elif kind == "predictor":
        tifffile.imwrite(buffer, rgb, photometric="rgb", compression="zlib", predictor=True)
    elif kind == "miniswhite":
        tifffile.imwrite(buffer, np.asarray(grey), photometric="miniswhite")
    else:
        tifffile.imwrite(buffer, rgb, photometric="rgb", bigtiff=True)
    return kind, buffer.getvalue()


def bmp(image, rng):
    kind = rng.choice(["rgb", "grey", "p", "p16", "1", "rgba"])
    modes = {"rgb": image, "grey": image.convert("L"), "p": image.quantize(200), "p16": image.quantize(16), "1": image.convert("1"), "rgba": with_alpha(image, rng)}
    return kind, encoded(modes[kind], "BMP")


def pnm(image, rng):
    kind = rng.choice(["rgb", "grey", "1", "grey16", "ascii", "maxval"])
    grey = image.convert("L")
    if kind == "grey16":
        return kind, encoded(Image.fromarray(wide(grey, rng)), "PPM")
    if kind == "ascii":
        values = np.asarray(image).reshape(-1)
        return kind, f"P3\n# text\n{image.width} {image.height}\n255\n{' '.join(map(str, values))}\n".encode()
    if kind == "maxval":
        body = (np.asarray(image) // 3).astype(np.uint8).tobytes()
        return kind, f"P6 {image.width} {image.height} 85\n".encode() + body
    return kind, encoded({"rgb": image, "grey": grey, "1": image.convert("1")}[kind], "PPM")


FORMATS = {"jpeg": jpeg, "png": any_png, "gif": gif, "webp": webp, "tiff": tiff, "bmp": bmp, "pnm": pnm}
SHARE = [0.3, 0.25, 0.1, 0.1, 0.13, 0.06, 0.06]


def pixels(blob):
    image = Image.open(io.BytesIO(blob))
    image.load()
    return planes(image)


def damage(blob, rng):
    if rng.random() < 0.5:
        return "cut", blob[: rng.integers(1, len(blob))] if rng.random() < 0.7 else blob[: -rng.integers(1, 12)]
    changed = bytearray(blob)
    for at in rng.integers(0, len(blob), rng.integers(1, 5)):
        changed[at] = rng.integers(0, 256)
    return "changed", bytes(changed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    formats = args.formats.split(",")
    share = np.array([SHARE[list(FORMATS).index(name)] for name in formats])
    tensors = {}
    for number in range(args.count):
        family = str(rng.choice(formats, p=share / share.sum()))
        image = picture(rng)
        kind, blob = FORMATS[family](image, rng)
        name = f"{family}_{kind}_{image.width}x{image.height}_{number}"
        try:
            pixels(blob)
        except Exception as error:
            print(name, "refused:", error)
            continue
        tensors[f"file/{name}"] = np.frombuffer(blob, dtype=np.uint8)
        for _ in range(3):
            mode, filter_name = str(rng.choice(["shortest", "longest", "squash"])), str(rng.choice(["bicubic", "bilinear"]))
            height, width = (int(side) for side in rng.integers(1, 100, 2))
            if rng.random() < 0.6:
                width = height
            try:
                view = transformed(Image.open(io.BytesIO(blob)), mode, filter_name, (height, width))
            except Exception as error:
                print(name, mode, filter_name, height, width, "refused:", error)
                continue
            tensors[f"eval/{name}/{mode}/{filter_name}/{height}x{width}"] = view
        rgb = Image.open(io.BytesIO(blob)).convert("RGB")
        tensors[f"pilrgb/{name}"] = planes(rgb)
        width, height = int(rng.integers(1, rgb.width + 1)), int(rng.integers(1, rgb.height + 1))
        left, top = int(rng.integers(0, rgb.width - width + 1)), int(rng.integers(0, rgb.height - height + 1))
        size = [int(side) for side in rng.integers(1, 80, 2)]
        try:
            original = Image.open(io.BytesIO(blob))
            crop = F.resized_crop(original, top, left, height, width, size, InterpolationMode.BICUBIC)
            tensors[f"crop/{name}/{left}_{top}_{width}_{height}/{size[0]}x{size[1]}"] = planes(crop)
        except Exception as error:
            print(name, "crop refused:", error)
        how, broken = damage(blob, rng)
        name = f"{name}_{how}"
        tensors[f"damaged/{name}"] = np.frombuffer(broken, dtype=np.uint8)
        try:
            tensors[f"pixels/{name}"] = pixels(broken)
        except Exception:
            pass
    save_file(tensors, args.out)
    print(args.out, args.out.stat().st_size, "bytes,", sum(name.startswith("file/") for name in tensors), "pictures")


if __name__ == "__main__":
    main()
