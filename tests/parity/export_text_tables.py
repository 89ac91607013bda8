"""Writes the tables that the CLIP tokenizer embeds, to crates/data/assets.

    python tests/parity/export_text_tables.py       # needs open_clip_torch 3.3.0, ftfy 6.3.1

* `clip_bpe_merges.bin`: OpenAI's byte-pair merges (MIT licence), as far as CLIP uses them: for each merge the two token ids
  that it joins, little-endian u16; merge `n` makes token `512 + n`
* `html5_entities.json`: Python's `html.entities.html5` and the code points that `html.unescape` treats specially
* `ftfy.json`: character tables and patterns of ftfy (Apache-2.0 licence), patterns in Rust's regex syntax
"""

import gzip
import html
import html.entities
import json
import re
import struct
from pathlib import Path

import ftfy.bad_codecs  # noqa: F401  registers the sloppy codecs
from ftfy import badness, chardata
from open_clip.tokenizer import bytes_to_unicode, default_bpe

ASSETS = Path(__file__).parents[2] / "crates" / "data" / "assets"
MERGES = 49152 - 256 - 2


def rust_pattern(pattern):
    """A verbose Python pattern without its blanks and comments."""
    out, inside, i = [], False, 0
    while i < len(pattern):
        char = pattern[i]
        if char == "\\":
            escape = pattern[i : i + 2]
            # Python's classes are wider than Rust's for \s and narrower for \w.
            escape = {r"\s": r"\s\x1c-\x1f", r"\w": r"\p{L}\p{N}_"}.get(escape, escape)
            out.append(escape if inside or escape == pattern[i : i + 2] else f"[{escape}]")
            i += 2
            continue
        if char == "#" and not inside:
            i = pattern.index("\n", i)
            continue
        if char in "[]":
            inside = char == "["
        if char.isspace() or ord(char) in (0xA0, 0xAD) or 0x80 <= ord(char) <= 0x9F:
            if inside or not char.isspace():
                out.append(f"\\x{{{ord(char):x}}}")
        else:
            out.append(char)
        i += 1
    return "".join(out)


def translation():
    """What the per-character fixes, one after another, make of each character they change."""
    table = {}
    for code in range(0x110000):
        char = chr(code)
        fixed = char
        if 0x80 <= code <= 0x9F:
            fixed = fixed.encode("latin-1").decode("sloppy-windows-1252")
        fixed = fixed.translate(chardata.LIGATURES).translate(chardata.WIDTH_MAP)
        fixed = chardata.SINGLE_QUOTE_RE.sub("'", chardata.DOUBLE_QUOTE_RE.sub('"', fixed))
        if fixed != char:
            table[char] = fixed
    return table


def merges():
    lines = gzip.open(default_bpe()).read().decode("utf-8").split("\n")[1 : MERGES + 1]
    symbols = list(bytes_to_unicode().values())
    ids = {symbol: i for i, symbol in enumerate(symbols + [symbol + "</w>" for symbol in symbols])}
    pairs = []
    for line in lines:
        left, right = line.split()
        pairs += [ids[left], ids[right]]
        assert ids.setdefault(left + right, len(ids)) == len(ids) - 1, f"{line}: made twice"
    return struct.pack(f"<{len(pairs)}H", *pairs)


def charmap(encoding):
    return bytes(range(0x80, 0x100)).decode(encoding)


def main():
    ASSETS.mkdir(parents=True, exist_ok=True)
    (ASSETS / "clip_bpe_merges.bin").write_bytes(merges())

    detector = rust_pattern(chardata.UTF8_DETECTOR_RE.pattern)
    not_after, detector = re.fullmatch(r"\(\?<!(\[.*?\])\)(.*)", detector).groups()
    tables = {
        "badness": rust_pattern(badness.BADNESS_RE.pattern),
        "detector": detector,
        "detector_not_after": not_after,
        "translation": translation(),
        "charmaps": {name: charmap(name) for name in chardata.CHARMAP_ENCODINGS},
    }
    (ASSETS / "ftfy.json").write_text(json.dumps(tables, ensure_ascii=False, indent=0) + "\n")

    entities = {
        "names": html.entities.html5,
        "replaced": {str(k): v for k, v in html._invalid_charrefs.items()},
        "dropped": sorted(html._invalid_codepoints),
    }
    (ASSETS / "html5_entities.json").write_text(json.dumps(entities, ensure_ascii=True, indent=0) + "\n")


if __name__ == "__main__":
    main()
