"""Writes formats.safetensors.gz: small pictures in every format that is read beside JPEG, and what Pillow makes of them.

    python tests/parity/export_formats.py                                   # needs Pillow 13, numpy, safetensors
    python tests/parity/export_formats.py --rounds 20 --out /tmp/formats.safetensors.gz  # more, of random sizes

Tensors: `file/<picture>` holds the encoded bytes, `mode/<picture>` the name of the mode in which Pillow opens it, `rgb/<picture>` its
`convert("RGB")`, and `view/<picture>` the same of the picture resized to 11 x 8 by the bicubic filter in its own mode, as
OpenCLIP's transform does. What Pillow refuses has the first alone. Where Pillow has no conversion (LAB), it is that by colour
profiles, and there is no view.
"""

import argparse
import gzip
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from safetensors.numpy import save

OUT = Path(__file__).parent / "data" / "formats.safetensors.gz"
warnings.simplefilter("ignore")
Image.MAX_IMAGE_PIXELS = None


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Pictures:
    """One picture of `width` x `height` in all modes."""

    def __init__(self, rng, width, height):
        self.rng, self.width, self.height = rng, width, height
        y, x = np.mgrid[0:height, 0:width]
        base = np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / max(width, height)], -1)
        rgb = (base + rng.normal(0, 12, base.shape)).clip(0, 255).astype(np.uint8)
        rgb[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 30)
        self.pixels = rgb
        self.rgb = Image.fromarray(rgb)
        self.grey = self.rgb.convert("L")
        alpha = (x * 300 / width + rng.normal(0, 30, x.shape) - 20).clip(0, 255).astype(np.uint8)
        self.alpha = Image.fromarray(alpha)
        self.rgba, self.la = self.rgb.copy(), self.grey.copy()
        self.rgba.putalpha(self.alpha)
        self.la.putalpha(self.alpha)
        self.palette = self.rgb.quantize(23)
        self.bits = self.rgb.convert("1")
        self.cmyk = self.rgb.convert("CMYK")
        self.wide = np.asarray(self.grey).astype(np.uint16) * 257 ^ rng.integers(0, 256, x.shape, dtype=np.uint16)
        self.wide_rgb = rgb.astype(np.uint16) * 257 ^ rng.integers(0, 256, rgb.shape, dtype=np.uint16)


def tiff(p):
    for name, image in [("rgb", p.rgb), ("grey", p.grey), ("1", p.bits), ("p", p.palette), ("la", p.la), ("rgba", p.rgba), ("cmyk", p.cmyk), ("grey16", Image.fromarray(p.wide))]:
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"):
            yield f"tiff_{name}_{compression}", encoded(image, "TIFF", compression=compression)
    for kind in ("group3", "group4", "tiff_ccitt"):
        yield f"tiff_1_{kind}", encoded(p.bits, "TIFF", compression=kind)
        # The last code is followed by a few bits at most.
        for value in (0, 1):
            plain = Image.new("1", p.bits.size, value)
            yield f"tiff_1_{kind}_last{value}", encoded(plain, "TIFF", compression=kind)
    yield "tiff_1_group3_2d", encoded(p.bits, "TIFF", compression="group3", tiffinfo={292: 1})
    yield "tiff_1_group3_fill", encoded(p.bits, "TIFF", compression="group3", tiffinfo={292: 4})
    for quality in (30, 90):
        yield f"tiff_jpeg_rgb_{quality}", encoded(p.rgb, "TIFF", compression="jpeg", quality=quality)
        yield f"tiff_jpeg_grey_{quality}", encoded(p.grey, "TIFF", compression="jpeg", quality=quality)
        yield f"tiff_jpeg_cmyk_{quality}", encoded(p.cmyk, "TIFF", compression="jpeg", quality=quality)
    ycbcr = p.rgb.convert("YCbCr")
    for compression in (None, "tiff_lzw", "zstd", "jpeg"):
        yield f"tiff_ycbcr_{compression}", encoded(ycbcr, "TIFF", compression=compression)
    lab = ImageCms.applyTransform(p.rgb, ImageCms.buildTransform(SRGB, LAB, "RGB", "LAB"))
    for compression in (None, "tiff_adobe_deflate"):
        yield f"tiff_lab_{compression}", encoded(lab, "TIFF", compression=compression)
    yield "tiff_float", encoded(Image.fromarray(np.asarray(p.grey).astype(np.float32) * 1.1 - 5), "TIFF", compression="zstd")
    yield "tiff_int", encoded(Image.fromarray(np.asarray(p.grey).astype(np.int32) * 2 - 50), "TIFF")
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[274] = orientation
        yield f"tiff_turned_{orientation}", encoded(p.rgb, "TIFF", exif=exif)
    yield "tiff_turned_5_lzw", encoded(p.palette, "TIFF", tiffinfo={274: 5}, compression="tiff_lzw")
    yield "tiff_pages", encoded(p.rgb, "TIFF", save_all=True, append_images=[p.grey])
    rgb, grey = p.pixels, np.asarray(p.grey)
    for order in "<>":
        end = "le" if order == "<" else "be"
        make = lambda *args, **options: written(order, p.width, p.height, *args, **options)
        yield f"tiff_own_rgb16_{end}", make(p.wide_rgb.astype(order + "u2").tobytes(), [16] * 3, 2)
        yield f"tiff_own_rgb16_planar_{end}", make(p.wide_rgb.transpose(2, 0, 1).astype(order + "u2").tobytes(), [16] * 3, 2, planar=True)
        yield f"tiff_own_grey16_{end}", make(p.wide.astype(order + "u2").tobytes(), [16], 1)
        yield f"tiff_own_white16_{end}", make(p.wide.astype(order + "u2").tobytes(), [16], 0)
        yield f"tiff_own_signed16_{end}", make((p.wide.astype(np.int32) // 2 - 9000).astype(order + "i2").tobytes(), [16], 1, format=2)
        yield f"tiff_own_float_{end}", make((grey * 1.3 - 20).astype(order + "f4").tobytes(), [32], 1, format=3)
        yield f"tiff_own_white_{end}", make(grey.tobytes(), [8], 0)
        yield f"tiff_own_white_bits_{end}", make(np.packbits(np.asarray(p.bits), axis=1).tobytes(), [1], 0)
        yield f"tiff_own_planar_{end}", make(rgb.transpose(2, 0, 1).tobytes(), [8] * 3, 2, planar=True)
        yield f"tiff_own_planar_deflate_{end}", make(rgb.transpose(2, 0, 1).tobytes(), [8] * 3, 2, planar=True, deflate=True)
        yield f"tiff_own_differences_{end}", make(rgb.tobytes(), [8] * 3, 2, deflate=True, differences=1)
        yield f"tiff_own_differences16_{end}", make(p.wide_rgb.astype(order + "u2").tobytes(), [16] * 3, 2, deflate=True, differences=2)
        yield f"tiff_own_reversed_{end}", make(bytes(REVERSED[b] for b in np.packbits(np.asarray(p.bits), axis=1).tobytes()), [1], 1, extra=[(266, 3, [2])])
        yield f"tiff_own_twelve_{end}", make(twelve(p.wide >> 4), [12], 1)
        for alpha in (0, 1, 2):
            yield f"tiff_own_extra{alpha}_{end}", make(np.asarray(p.rgba).tobytes(), [8] * 4, 2, extra=[(338, 3, [alpha])])
            yield f"tiff_own_grey_extra{alpha}_{end}", make(np.asarray(p.la).tobytes(), [8] * 2, 1, extra=[(338, 3, [alpha])])
        yield f"tiff_own_big_{end}", make(rgb.tobytes(), [8] * 3, 2, big=True)
        for bits in (2, 4):
            yield f"tiff_own_grey{bits}_{end}", make(packed(grey >> (8 - bits), bits), [bits], 1)
            yield f"tiff_own_white{bits}_{end}", make(packed(grey >> (8 - bits), bits), [bits], 0)
            colors = [v * 257 for channel in range(3) for v in rgb.reshape(-1, 3)[: 2**bits, channel].tolist()]
            yield f"tiff_own_p{bits}_{end}", make(packed(grey >> (8 - bits), bits), [bits], 3, extra=[(320, 3, colors)])
        for across, down in ((2, 1), (2, 2), (1, 2), (4, 2)):
            yield f"tiff_own_chroma{across}{down}_{end}", make(blocks(np.asarray(ycbcr), across, down), [8] * 3, 6, deflate=True, extra=[(530, 3, [across, down])])
        for deflate in (False, True):
            yield f"tiff_own_tiled_{deflate}_{end}", make(rgb, [8] * 3, 2, tile=(16, 16), deflate=deflate)
            yield f"tiff_own_tiled_bits_{deflate}_{end}", make(np.asarray(p.bits)[..., None].astype(np.uint8), [1], 1, tile=(32, 16), deflate=deflate)


SRGB, LAB = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
REVERSED = [int(f"{b:08b}"[::-1], 2) for b in range(256)]


def packed(values, bits):
    digits = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
    return np.packbits(digits.reshape(values.shape[0], -1), axis=1).tobytes()


def twelve(values):
    digits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=2)[..., 4:]
    return np.packbits(digits.reshape(values.shape[0], -1), axis=1).tobytes()


def blocks(pixels, across, down):
    """Luma and chroma in blocks, chroma of the first pixel."""
    height, width, _ = pixels.shape
    pixels = np.pad(pixels, ((0, -height % down), (0, -width % across), (0, 0)), mode="edge")
    out = b""
    for top in range(0, height, down):
        for left in range(0, width, across):
            part = pixels[top : top + down, left : left + across]
            out += part[..., 0].tobytes() + part[0, 0, 1:].tobytes()
    return out


def written(order, width, height, data, bits, photometric, planar=False, deflate=False, differences=0, tile=None, format=1, extra=(), big=False):
    """A TIFF of one strip, of one strip a plane, or of tiles."""
    count = len(bits)
    if tile:
        across, down = tile
        pixels = np.pad(data, ((0, -height % down), (0, -width % across), (0, 0)))
        parts = []
        for top in range(0, height, down):
            for left in range(0, width, across):
                part = pixels[top : top + down, left : left + across]
                parts.append(np.packbits(part[..., 0], axis=1).tobytes() if bits == [1] else part.tobytes())
    elif planar:
        size = len(data) // count
        parts = [data[i * size : (i + 1) * size] for i in range(count)]
    else:
        parts = [data]
    if differences:
        kind = np.dtype(f"{order}u{differences}")
        values = np.frombuffer(parts[0], kind).reshape(height, width, count)
        step = np.concatenate([values[:, :1], values[:, 1:] - values[:, :-1]], axis=1)
        parts = [step.astype(kind).tobytes()]
    if deflate:
        parts = [zlib.compress(part) for part in parts]
    head = 16 if big else 8
    offsets, body = [], b""
    for part in parts:
        offsets.append(head + len(body))
        body += part
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, bits), (259, 3, [8 if deflate else 1]), (262, 3, [photometric]), (277, 3, [count]), (284, 3, [2 if planar else 1]), (339, 3, [format] * count), *extra]
    if tile:
        tags += [(322, 3, [tile[0]]), (323, 3, [tile[1]]), (324, 4, offsets), (325, 4, [len(part) for part in parts])]
    else:
        tags += [(273, 4, offsets), (278, 4, [height]), (279, 4, [len(part) for part in parts])]
    if differences:
        tags.append((317, 3, [2]))
    body += b"\0" * (len(body) % 2)
    fields = b""
    long = "Q" if big else "I"
    for number, kind, values in sorted(tags):
        value = struct.pack(order + ("H" if kind == 3 else "I") * len(values), *values)
        if len(value) > (8 if big else 4):
            at, body = head + len(body), body + value + b"\0" * (len(value) % 2)
            value = struct.pack(order + long, at)
        fields += struct.pack(order + "HH" + long, number, kind, len(values)) + value.ljust(8 if big else 4, b"\0")
    start = struct.pack(order + long, head + len(body))
    mark = b"II" if order == "<" else b"MM"
    if big:
        return mark + struct.pack(order + "HHH", 43, 8, 0) + start + body + struct.pack(order + "Q", len(tags)) + fields + b"\0" * 8
    return mark + struct.pack(order + "H", 42) + start + body + struct.pack(order + "H", len(tags)) + fields + b"\0" * 4


def avif(p):
    for name, image in [("rgb", p.rgb), ("grey", p.grey), ("rgba", p.rgba), ("la", p.la)]:
        for sampling in ("4:4:4", "4:2:2", "4:2:0") if name.startswith("rgb") else ("4:0:0",):
            for span in ("full", "limited"):
                kind = f"avif_{name}_{sampling.replace(':', '')}_{span}"
                yield kind, encoded(image, "AVIF", quality=70, subsampling=sampling, range=span)
    yield "avif_lossless", encoded(p.rgb, "AVIF", quality=100, subsampling="4:4:4")
    yield "avif_premultiplied", encoded(p.rgba, "AVIF", quality=80, alpha_premultiplied=True)
    yield "avif_animated", encoded(p.rgb, "AVIF", save_all=True, append_images=[p.rgb.rotate(180)])
    for codes in ((1, 13, 1), (9, 16, 9), (1, 13, 5), (1, 13, 0), (1, 13, 7), (1, 13, 8), (12, 13, 12)):
        for span in ("full", "limited"):
            blob = encoded(p.rgb, "AVIF", quality=80, subsampling="4:4:4", range=span)
            at = blob.find(b"nclx") + 4
            yield f"avif_matrix{codes[2]}_{span}", blob[:at] + struct.pack(">HHH", *codes) + blob[at + 6 :]
    exif = Image.Exif()
    exif[274] = 6
    yield "avif_turned", encoded(p.rgb, "AVIF", exif=exif)


def jpeg2000(p):
    deep = Image.fromarray(p.wide)
    for name, image in [("rgb", p.rgb), ("grey", p.grey), ("rgba", p.rgba), ("la", p.la), ("cmyk", p.cmyk), ("grey16", deep)]:
        yield f"jp2_{name}", encoded(image, "JPEG2000")
        yield f"jp2_{name}_bare", encoded(image, "JPEG2000", no_jp2=True)
        yield f"jp2_{name}_lossy", encoded(image, "JPEG2000", irreversible=True, quality_mode="dB", quality_layers=[45])
    yield "jp2_tiled", encoded(p.rgb, "JPEG2000", tile_size=(8, 8), num_resolutions=2)
    yield "jp2_no_mct", encoded(p.rgb, "JPEG2000", mct=0)
    yield "jp2_offset", encoded(p.rgb, "JPEG2000", offset=(3, 5), tile_offset=(1, 1), tile_size=(64, 64))
    yield "jp2_layers", encoded(p.rgb, "JPEG2000", irreversible=True, quality_layers=[40, 20, 5], progression="RPCL")
    blob = encoded(Image.fromarray(np.asarray(p.palette)), "JPEG2000")
    colors = bytes(p.palette.getpalette("RGB"))[: 3 * 23]
    pclr = struct.pack(">HB", 23, 3) + b"\7\7\7" + colors
    cmap = struct.pack(">" + "HBB" * 3, 0, 1, 0, 0, 1, 1, 0, 1, 2)
    colr = b"\1\0\0" + struct.pack(">I", 16)
    box = lambda kind, body: struct.pack(">I", 8 + len(body)) + kind + body
    at = blob.find(b"jp2h") - 4
    (length,) = struct.unpack(">I", blob[at : at + 4])
    ihdr = blob[at + 8 : at + 30]
    yield "jp2_palette", blob[:at] + box(b"jp2h", ihdr + box(b"colr", colr) + box(b"pclr", pclr) + box(b"cmap", cmap)) + blob[at + length :]


def icon(p):
    square = [getattr(p, kind).resize((16, 16)) for kind in ("rgb", "grey", "rgba", "la", "palette", "bits")]
    for name, image in zip(("rgb", "grey", "rgba", "la", "p", "1"), square):
        yield f"ico_png_{name}", encoded(image, "ICO", sizes=[(16, 16)])
        if name != "la":
            yield f"ico_bmp_{name}", encoded(image, "ICO", sizes=[(16, 16)], bitmap_format="bmp")
    large = p.rgba.resize((40, 40))
    yield "ico_sizes", encoded(large, "ICO", sizes=[(16, 16), (32, 32), (24, 24)])
    yield "ico_sizes_bmp", encoded(large, "ICO", sizes=[(16, 16), (24, 24)], bitmap_format="bmp")
    blob = bytearray(encoded(square[0], "ICO", sizes=[(16, 16)], bitmap_format="bmp"))
    blob[-64:] = p.rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
    yield "ico_mask", bytes(blob)
    cursor = bytearray(encoded(square[2], "ICO", sizes=[(16, 16)], bitmap_format="bmp"))
    cursor[2] = 2
    yield "cur_rgba", bytes(cursor)
    cursor = bytearray(encoded(square[5], "ICO", sizes=[(16, 16)], bitmap_format="bmp"))
    cursor[2] = 2
    # The rows of its mask are too short.
    cursor[-32:] = p.rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
    yield "cur_1", bytes(cursor)
    cursor = bytearray(blob)
    cursor[2] = 2
    yield "cur_rgb", bytes(cursor)


def tga(p):
    for name, image in [("rgb", p.rgb), ("grey", p.grey), ("1", p.bits), ("p", p.palette), ("la", p.la), ("rgba", p.rgba)]:
        for compression in (None, "tga_rle") if name != "1" else (None,):
            for orientation in (-1, 1):
                yield f"tga_{name}_{compression}_{orientation}", encoded(image, "TGA", compression=compression, orientation=orientation)
    blob = bytearray(encoded(p.rgb, "TGA", id_section=b"a comment"))
    yield "tga_comment", bytes(blob)
    blob = bytearray(encoded(p.rgb, "TGA"))
    blob[17] |= 0x10
    yield "tga_mirrored", bytes(blob)
    yield "tga_no_footer", encoded(p.rgb, "TGA")[:-26]
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, p.width, p.height, 16, 0x21)
    yield "tga_16", head + p.rng.integers(0, 65536, p.width * p.height, dtype=np.uint16).tobytes()
    values = p.rng.integers(0, 20, p.width * p.height, dtype=np.uint8).tobytes()
    for bits in (16, 24, 32):
        head = struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 2, 18, bits, 0, 0, p.width, p.height, 8, 0)
        yield f"tga_map{bits}", head + p.rng.integers(0, 256, 18 * bits // 8, dtype=np.uint8).tobytes() + values
    blob = encoded(p.rgba, "TGA")
    extension = bytearray(495)
    at = len(blob) - 26
    yield "tga_no_alpha", blob[:at] + bytes(extension) + struct.pack("<II", at, 0) + blob[at + 8 :]


def bmp(p):
    for name, image in [("rgb", p.rgb), ("grey", p.grey), ("1", p.bits), ("p", p.palette), ("rgba", p.rgba)]:
        yield f"bmp_{name}", encoded(image, "BMP")
        yield f"dib_{name}", encoded(image, "DIB")
    rgba = np.asarray(p.rgba)[::-1]
    bgra = rgba[..., [2, 1, 0, 3]].tobytes()

    def own(body, bits, compression=0, masks=(), header=40, palette=b"", height=p.height):
        info = struct.pack("<IiiHHIIiiII", header, p.width, height, 1, bits, compression, len(body), 0, 0, len(palette) // 4, 0)
        info += b"".join(struct.pack("<I", mask) for mask in masks)
        info = info.ljust(header, b"\0")
        start = 14 + len(info) + len(palette)
        return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + palette + body

    yield "bmp_32", own(bgra, 32)
    yield "bmp_32_masks", own(bgra, 32, 3, (0xFF0000, 0xFF00, 0xFF))
    yield "bmp_32_alpha", own(bgra, 32, 3, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 108)
    yield "bmp_32_rgba", own(rgba.tobytes(), 32, 3, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 124)
    line = (2 * p.width + 3) // 4 * 4
    words = np.zeros((p.height, line // 2), np.uint16)
    words[:, : p.width] = p.rng.integers(0, 65536, (p.height, p.width), dtype=np.uint16)
    yield "bmp_15", own((words & 0x7FFF).tobytes(), 16)
    yield "bmp_16", own(words.tobytes(), 16, 3, (0xF800, 0x7E0, 0x1F))
    yield "bmp_15_masks", own(words.tobytes(), 16, 3, (0x7C00, 0x3E0, 0x1F))
    rows = p.pixels[..., ::-1]
    rows = b"".join(row.tobytes().ljust((3 * p.width + 3) // 4 * 4, b"\0") for row in rows)
    yield "bmp_top_down", own(rows, 24, height=-p.height)
    body = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + struct.pack("<IHHHH", 12, p.width, p.height, 1, 24) + rows
    yield "bmp_os2", body
    indices = np.asarray(p.palette)[::-1]
    palette = b"".join(bytes(p.palette.getpalette()[3 * i : 3 * i + 3][::-1]) + b"\0" for i in range(23))
    runs = b"".join(b"".join(bytes([1, int(v)]) for v in row) + b"\0\0" for row in indices) + b"\0\1"
    yield "bmp_rle8", own(runs, 8, 1, palette=palette)
    short = bytes([p.width - 4, 7, 0, 0, 0, 3, 1, 2, 3, 0, 0, 2, 2, 1, 0, 4, 4, 5, 6, 7, 200, 9, 0, 0])
    yield "bmp_rle8_codes", own(short + runs, 8, 1, palette=palette)
    yield "bmp_rle8_short", own(runs[: len(runs) // 2] + b"\0\1", 8, 1, palette=palette)
    yield "bmp_few_colors", own(b"".join(bytes(row).ljust((p.width + 3) // 4 * 4, b"\0") for row in indices), 8, palette=palette[:40])
    indices = np.asarray(p.rgb.quantize(16))[::-1]
    palette = b"".join(bytes(p.rgb.quantize(16).getpalette()[3 * i : 3 * i + 3][::-1]) + b"\0" for i in range(16))
    runs = b"".join(b"".join(bytes([1, int(v) << 4]) for v in row) + b"\0\0" for row in indices) + b"\0\1"
    short = bytes([p.width - 4, 0x7A, 0, 0, 0, 3, 0x12, 0x30, 0, 5, 0x45, 0x67, 0x80, 0, 0, 2, 2, 1, 200, 0x9C, 0, 0])
    yield "bmp_rle4_codes", own(short + runs, 4, 2, palette=palette)
    yield "bmp_rle4", own(runs, 4, 2, palette=palette)


def png(p):
    text = "PNG"
    blob = encoded(p.palette, text, transparency=3)
    position = {}
    at = 8
    while at < len(blob):
        (length,) = struct.unpack(">I", blob[at : at + 4])
        position[blob[at + 4 : at + 8].decode()] = (at, length)
        at += 12 + length
    for kind, (at, length) in position.items():
        wrong = bytearray(blob)
        wrong[at + 8 + length] ^= 0x55
        yield f"png_checksum_{kind}", bytes(wrong)
    at, length = position["IDAT"]
    wrong = bytearray(blob)
    wrong[at + 7 + length] ^= 1
    yield "png_checksum_stream", bytes(wrong)
    yield "png_late_text", blob[:-12] + struct.pack(">I", 3) + b"tEXtk\0v\0\0\0\0" + blob[-12:]


def others(p):
    for name, image in [("rgb", p.rgb), ("grey", p.grey), ("1", p.bits), ("p", p.palette)]:
        yield f"pcx_{name}", encoded(image, "PCX")
    planes = p.rng.integers(0, 256, (p.height, 4 * ((p.width + 15) // 16 * 2)), dtype=np.uint8)
    head = struct.pack("<BBBBHHHHHH", 10, 5, 1, 1, 0, 0, p.width - 1, p.height - 1, 72, 72)
    head += p.rng.integers(0, 256, 48, dtype=np.uint8).tobytes() + struct.pack("<BBHH", 0, 4, planes.shape[1] // 4, 1)
    body = b"".join(bytes([0xC1, v]) for v in planes.tobytes())
    yield "pcx_planes", head.ljust(128, b"\0") + body
    for name, image in [("rgb", p.rgb), ("grey", p.grey), ("rgba", p.rgba)]:
        yield f"sgi_{name}", encoded(image, "SGI")
    for name, image in [("rgb", p.rgb), ("rgba", p.rgba)]:
        yield f"qoi_{name}", encoded(image, "QOI")
    for name, image in [("rgb", p.rgb), ("rgba", p.rgba), ("grey", p.grey), ("la", p.la)]:
        yield f"dds_{name}", encoded(image, "DDS")
    even = p.rgba.resize((16, 12))
    for kind in ("DXT1", "DXT3", "DXT5", "BC2", "BC3"):
        yield f"dds_{kind}", encoded(even, "DDS", pixel_format=kind)
    yield "dds_BC5", encoded(even.convert("RGB"), "DDS", pixel_format="BC5")
    odd = bytearray(encoded(even, "DDS", pixel_format="DXT5"))
    odd[12:20] = struct.pack("<II", 11, 14)
    yield "dds_odd", bytes(odd)
    words = p.rng.integers(0, 65536, p.width * p.height, dtype=np.uint16).tobytes()
    masks = bytearray(encoded(p.rgb, "DDS")[:128])
    masks[88:108] = struct.pack("<5I", 16, 0xF800, 0x7E0, 0x1F, 0)
    yield "dds_masks", bytes(masks) + words
    grey = bytearray(encoded(p.grey.resize((16, 12)), "DDS"))
    grey[80:88] = struct.pack("<I4s", 4, b"ATI1")
    yield "dds_ATI1", bytes(grey)
    yield "xbm", encoded(p.bits, "XBM")
    yield "pfm", encoded(Image.fromarray(np.asarray(p.grey).astype(np.float32) * 1.2 - 9), "PPM")
    yield "pgm16", encoded(Image.fromarray(p.wide), "PPM")
    yield "pbm", encoded(p.bits, "PPM")
    for number, body in [(1, np.asarray(p.bits).astype(int) ^ 1), (2, np.asarray(p.grey)), (3, p.pixels)]:
        peak = "" if number == 1 else "255\n"
        text = " ".join(map(str, np.asarray(body).reshape(-1).tolist()))
        yield f"plain{number}", f"P{number}\n# made by hand\n{p.width} {p.height}\n{peak}{text}\n".encode()
    yield "pgm_maxval", f"P5 {p.width} {p.height} 85\n".encode() + (np.asarray(p.grey) // 3).astype(np.uint8).tobytes()
    for name, image in [("rgb", p.rgb), ("grey", p.grey), ("rgba", p.rgba)]:
        yield f"webp_{name}", encoded(image, "WEBP", lossless=True, exact=True)
    yield "webp_animated", encoded(p.rgba, "WEBP", lossless=True, save_all=True, append_images=[p.rgba.rotate(180)])
    yield "mpo", encoded(p.rgb, "MPO", save_all=True, append_images=[p.rgb.rotate(180)])


# Of these a smaller choice goes into the committed file.
def later(p):
    """Planes of several sizes, samples of two bytes, files that are cut off."""
    for subsampling, name in enumerate(("444", "422", "420")):
        yield f"jpeg_cmyk_{name}", encoded(p.rgb.convert("CMYK"), "JPEG", quality=90, subsampling=subsampling)
    yield "sgi_grey16", encoded(p.grey, "SGI", bpc=2)
    for kind, suffix in (("JPEG2000", "jp2"), ("WEBP", "webp")):
        whole = encoded(p.rgb, kind)
        yield f"{suffix}_cut_end", whole[:-1]
        yield f"{suffix}_cut_half", whole[: len(whole) // 2]
    yield "tiff_palette_cut_end", encoded(p.rgb.quantize(16), "TIFF", compression="tiff_lzw")[:-1]


FAMILIES = (tiff, avif, jpeg2000, icon, tga, bmp, png, others, later)


def rgb_of(image):
    if image.mode == "LAB":
        exact = ImageCms.buildTransform(LAB, SRGB, "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE)
        return ImageCms.applyTransform(image, exact)
    return image.convert("RGB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    tensors = {}
    for number in range(args.rounds):
        width, height = (15, 11) if args.rounds == 1 else rng.integers(9, 70, 2)
        pictures = Pictures(rng, int(width), int(height))
        for family in FAMILIES:
            for name, blob in family(pictures):
                key = name if args.rounds == 1 else f"{name}/{width}x{height}_{number}"
                tensors[f"file/{key}"] = np.frombuffer(blob, np.uint8)
                try:
                    image = Image.open(io.BytesIO(blob))
                    image.load()
                    tensors[f"rgb/{key}"] = np.asarray(rgb_of(image))
                except Exception as error:
                    if number == 0:
                        print(key, "refused:", error)
                    continue
                tensors[f"mode/{key}"] = np.frombuffer(image.mode.encode(), np.uint8)
                if image.mode not in ("LAB", "La", "PA"):
                    view = image.resize((11, 8), Image.Resampling.BICUBIC).convert("RGB")
                    tensors[f"view/{key}"] = np.asarray(view)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(gzip.compress(save(tensors), mtime=0))
    print(args.out, args.out.stat().st_size, "bytes,", sum(key.startswith("file/") for key in tensors), "pictures")


if __name__ == "__main__":
    main()
