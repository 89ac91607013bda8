"""Writes captions and the token ids that open_clip gives them, to tests/parity/data/tokens.

    python tests/parity/export_tokens.py                              # needs open_clip_torch 3.3.0, ftfy 6.3.1, transformers
    python tests/parity/export_tokens.py --fuzz 200000 --seed 1 --out fuzz.json.gz

* `captions.json.gz`: more than 10,000 captions of every kind with the ids of `SimpleTokenizer`; other context lengths, ways
  of cleaning and `decode`
* `wordpiece/`, `bpe/`, `unigram/`: small `tokenizer.json`s, and in `hf.json.gz` what `HFTokenizer` makes of captions

With `--fuzz`, random strings go to a file of their own, which the test reads when `OPENCLIP_TOKENS` names it:

    OPENCLIP_TOKENS=fuzz.json.gz cargo test --release -p openclip-tests --test data -- --ignored tokenizer
"""

import argparse
import gzip
import html.entities
import json
import random
import unicodedata
from pathlib import Path

from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

DATA = Path(__file__).parent / "data" / "tokens"

SENTENCES = """
A dog's life isn't what it's cracked up to be; they'll say we've won, I'm sure he'd agree you're right.
Vintage 1960's Ford Mustang 289 V8 - 4-speed, $45,000 o.b.o.! (Call 555-0123)
THE QUICK BROWN FOX jumped over 13 lazy dogs @ 7:45pm #photography #nature http://example.com/a?b=c&d=e
Crème brûlée à la carte, naïve façade, Ærøskøbing, smörgåsbord, Dvořák, Łódź, Škoda, İstanbul, Straße
La señora compró jalapeños por 3,50 € en el año 2019; ¿qué más quieres? ¡Olé!
L'été dernier, j'étais à l'école où l'humanité n'était pas très « évoluée »…
ΟΔΥΣΣΕΥΣ και ο ΘΕΟΣ, ΣΑΣ ΒΛΕΠΩ. Η ΠΌΛΗ ΤΗΣ ΑΘΉΝΑΣ
Москва – столица России, Ёлки-палки! Київ, Ґанок, їжак
東京タワーの夜景、とても綺麗です。ｶﾞｲｺｸ ＡＢＣ１２３
一只可爱的小猫坐在沙发上，看着窗外。你好世界！
서울의 아름다운 밤 풍경 한국어 ﾡﾢ
صورة جميلة للغروب على الشاطئ ١٢٣ لا إله
תמונה יפה של שקיעה בחוף הים
ภาพถ่ายพระอาทิตย์ตกที่ชายหาด สวยมาก ๑๒๓
समुद्र तट पर सूर्यास्त की सुंदर तस्वीर १२३
Tiếng Việt: một bức ảnh đẹp về hoàng hôn trên bãi biển
“Curly quotes” and ‘single ones’ — em–dash … ellipsis • bullet ™ © ® ° ± ½ ² №
👨‍👩‍👧‍👦 family 👩🏽‍🚀 astronaut 🏴󠁧󠁢󠁷󠁬󠁳󠁿 flag 🇩🇪🇫🇷 ❤️‍🔥 ✔️ 1️⃣ 😀😃😄
ﬁne ﬂuﬃest ﬀ ﬆar Ĳssel ŉ ǆ Ǳ ſt
e\u0301 a\u0308 o\u0302\u0323 n\u0303 \u1112\u1161\u11ab \u0915\u093c A\u030a
tab\tnewline\nreturn\r\ncarriage\rform\fvertical\x0bnext\x85line\u2028para\u2029nbsp\xa0thin\u2009ideo\u3000end
\x00nul \x07bell \x1besc \x7fdel \x1c\x1d\x1e\x1f \ufeffbom \u200bzwsp \u200ezlrm \u2060wj \ufffcobj \u206anss \ufff9ia
\x1b[31mred\x1b[0m \x1b[1;32;40mgreen\x1b[K \x1b[m \x1b[12 \x1b]0;title\x07
<start_of_text> in <end_of_text> <START_OF_TEXT> <End_of_Text>!<end_of_text> x<end_of_text>y <ſtart_of_text>
&amp; &lt;b&gt; &quot;x&quot; &#39;s &#x27; &eacute; &EACUTE; &nbsp; &copy &notit; &hellip; &bogus; &; & && &#; &#x; &#xZ;
&amp;amp;amp; &amp;lt; &amp;#39; &#38;amp; &amp;eacute; &#128; &#150; &#0; &#xD800; &#1114112; &#99999999999; &#27; &#9;
<b>bold</b> &amp; <i>italics</i> &eacute; <br/>
snake_case_name __init__ C++ C# a/b\\c [x] {y} |z| ~w `v` ^u %t $s #r @q !p ?o *n +m =l
Â£5 and Â©2020 cafÃ© â€œquotedâ€\x9d itâ€™s â€” â€¦ naÃ¯ve Ã  la mode voilÃ le travail
Ð¡Ð¾Ð±Ð°ÐºÐ° Ñ\x81Ð¸Ð´Ð¸Ñ‚  æ—¥æœ¬èªž  ðŸ˜€ ðŸ˜\x8d
ÃƒÂ© Ã¢â‚¬â„¢ ÃƒÆ’Ã‚Â© Ã\x83Â© â€� â€? Ã? Â
""".strip("\n").split("\n")
SENTENCES = [
    s.encode("latin-1", "backslashreplace").decode("unicode-escape") if "\\x" in s or "\\u" in s else s for s in SENTENCES
]

CODECS = [
    "latin-1",
    "windows-1252",
    "windows-1251",
    "windows-1250",
    "windows-1253",
    "windows-1254",
    "windows-1257",
    "iso-8859-2",
    "macroman",
    "cp437",
    "sloppy-windows-1252",
    "sloppy-windows-1251",
    "sloppy-windows-1250",
    "sloppy-windows-1253",
]

BLOCKS = [
    (0x00, 0x20),
    (0x20, 0x7F),
    (0x20, 0x7F),
    (0x20, 0x7F),
    (0x7F, 0xA0),
    (0xA0, 0x100),
    (0x100, 0x250),
    (0x250, 0x370),
    (0x370, 0x400),
    (0x400, 0x530),
    (0x530, 0x700),
    (0x900, 0xE00),
    (0xE00, 0x1100),
    (0x1100, 0x1200),
    (0x13A0, 0x1400),
    (0x1AB0, 0x1B00),
    (0x1C80, 0x1D00),
    (0x1E00, 0x2000),
    (0x2000, 0x2070),
    (0x2070, 0x2500),
    (0x2500, 0x2C00),
    (0x2C00, 0x3000),
    (0x3000, 0x3100),
    (0x3100, 0x9FFF),
    (0xA640, 0xA800),
    (0xAC00, 0xD7A4),
    (0xE000, 0xE100),
    (0xF8F0, 0xFB50),
    (0xFB50, 0xFE00),
    (0xFE00, 0xFF00),
    (0xFF00, 0x10000),
    (0x10000, 0x11000),
    (0x1D100, 0x1D800),
    (0x1F100, 0x1FB00),
    (0xE0000, 0xE0200),
]
MARKS = [c for c in range(0x300, 0x20000) if unicodedata.combining(chr(c))]
ENTITIES = sorted(html.entities.html5)
# Characters that ftfy's rules are about.
SUSPECTS = sorted(
    {c for codec in CODECS for c in bytes(range(0x80, 0x100)).decode(codec, "replace")} | set(" \xa0\x1a?.,!aAzZ1–—“”‘’…\n")
)


def assigned(char):
    """Characters that Python's tables know and a str may hold in UTF-8."""
    return unicodedata.category(char) not in ("Cn", "Cs")


def character(rng):
    while True:
        char = chr(rng.randrange(*rng.choice(BLOCKS)))
        if assigned(char):
            return char


def mojibake(rng, text):
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        codec = rng.choice(CODECS)
        text = text.encode("utf-8").decode(codec, rng.choice(("replace", "replace", "ignore")))
        if rng.random() < 0.2:
            text = text.replace("\xa0", " ")
        if rng.random() < 0.1:
            text = text.replace("\ufffd", rng.choice(("?", "\x1a")))
    return text


def cesu(rng, text):
    """Astral characters as two surrogates, zero as C0 80, read with a single-byte encoding."""
    units = text.encode("utf-16-le", "surrogatepass")
    text = "".join(chr(int.from_bytes(units[i : i + 2], "little")) for i in range(0, len(units), 2))
    encoded = text.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")
    return encoded.decode(rng.choice(("latin-1", "sloppy-windows-1252", "macroman")), "replace")


def entity(rng):
    kind = rng.randrange(8)
    if kind < 3:
        text = "&" + rng.choice(ENTITIES)
        if rng.random() < 0.3:
            text = text.upper()
        if rng.random() < 0.2:
            text = text[: rng.randrange(1, len(text) + 1)]
    elif kind < 5:
        text = f"&#{rng.choice((rng.randrange(0x100), rng.randrange(0x3000), rng.randrange(0x120000)))}"
        text += rng.choice((";", ";", ""))
    elif kind < 6:
        text = f"&#{rng.choice('xX')}{rng.randrange(0x11FFFF):x}" + rng.choice((";", ";", ""))
    elif kind < 7:
        text = "&" + "".join(rng.choice("abcXYZ019;#&x é.") for _ in range(rng.randrange(40)))
    else:
        text = rng.choice(("&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&nbsp;", "&#39;", "&eacute;"))
    for _ in range(rng.choice((0, 0, 0, 1, 2, 3))):
        text = text.replace("&", "&amp;")
    return text


def fragment(rng):
    kind = rng.randrange(16)
    if kind < 3:
        return "".join(character(rng) for _ in range(rng.randrange(1, 12)))
    if kind < 5:
        sentence = rng.choice(SENTENCES)
        start = rng.randrange(len(sentence))
        return sentence[start : start + rng.randrange(1, 30)]
    if kind < 7:
        return mojibake(rng, fragment(rng))
    if kind < 8:
        return "".join(rng.choice(SUSPECTS) for _ in range(rng.randrange(1, 9)))
    if kind < 10:
        return entity(rng)
    if kind < 11:
        return rng.choice("aeiouyAEIOUncsz가ㅏ") + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randrange(1, 4)))
    if kind < 12:
        return rng.choice(
            ("'s", "'T", "'ſ", "'re", "'VE", "'m", "'ll", "'d", "<start_of_text>", "<end_of_text>", "<END_OF_TEXT>", "<")
        )
    if kind < 13:
        return rng.choice("ΣσςΑ İıßẞ") + rng.choice(("Σ", "'Σ", "Σ.", "ΑΣ", "Σ\u0301", "Σ’", "\u0345Σ", "Σ\xadΑ"))
    if kind < 14:
        return cesu(rng, rng.choice(("😀", "é\0", "한글", "x😍y", "\0")) + fragment(rng)[:4])
    if kind < 15:
        return "\x1b[" + "".join(rng.choice("0123;٣ m") for _ in range(rng.randrange(5))) + rng.choice("mKé!")
    return rng.choice(IMAGENET_CLASSNAMES)


def random_caption(rng):
    glue = rng.choice(("", " ", " ", "\n", "  "))
    return glue.join(fragment(rng) for _ in range(rng.randrange(1, 7)))


def plain_caption(rng):
    caption = rng.choice(OPENAI_IMAGENET_TEMPLATES)(rng.choice(IMAGENET_CLASSNAMES))
    kind = rng.randrange(6)
    if kind == 0:
        caption = caption.upper()
    elif kind == 1:
        caption += f" {rng.randrange(10**6)} - {rng.choice(IMAGENET_CLASSNAMES)}, {rng.random():.3f}%"
    elif kind == 2:
        caption = f"{rng.choice(IMAGENET_CLASSNAMES)}'s {caption} & {rng.choice(IMAGENET_CLASSNAMES)}!?"
    return caption


def corpus(rng):
    captions = ["", " ", "\n\t\u3000", "\x00", "&nbsp;", "a", "!", "\xa0" * 5, "<end_of_text>", "Σ", "İ"]
    captions += SENTENCES
    captions += [s.upper() for s in SENTENCES] + [s[::-1] for s in SENTENCES]
    captions += [" ".join(SENTENCES), "\n".join(SENTENCES), "word " * 200, "a" * 3000, "!" * 500, "ab" * 700, "é" * 400]
    for codec in CODECS:
        for sentence in SENTENCES:
            captions.append(sentence.encode("utf-8").decode(codec, "replace"))
    captions += [chr(c) for c in range(0x3100) if assigned(chr(c))][::7]
    captions += [f"x{chr(c)}y" for c in range(0x20, 0x180)]
    captions += [f"&{name} &{name.upper()}x" for name in ENTITIES[::9]]
    captions += [plain_caption(rng) for _ in range(4000)]
    captions += [random_caption(rng) for _ in range(10500 - len(captions))]
    return captions


def row(tokenizer, caption, length=None):
    """Ids without the padding behind the end of the text."""
    ids = tokenizer(caption, length)[0].tolist()
    last = max(i for i, token in enumerate(ids) if token)
    return ids[: last + 1]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def clip(captions):
    tokenizer = SimpleTokenizer()
    rng = random.Random(2)
    lengths = []
    for length in (1, 2, 3, 5, 8, 16, 32, 64, 76, 128, 256):
        lengths += [[length, i, row(tokenizer, captions[i], length)] for i in rng.sample(range(len(captions)), 30)]
    cleaned = []
    for clean in ("lower", "whitespace", "canonicalize"):
        other = SimpleTokenizer(clean=clean)
        for i in rng.sample(range(len(captions)), 300):
            cleaned.append([clean, i, other.clean_fn(captions[i]), row(other, captions[i])])
    decoded = []
    for i in rng.sample(range(len(captions)), 300):
        ids = tokenizer(captions[i])[0].tolist()
        decoded.append([ids[: rng.randrange(78)], None])
        decoded.append([[rng.randrange(49408) for _ in range(10)], None])
    for pair in decoded:
        pair[1] = tokenizer.decode(pair[0])
    rows = [row(tokenizer, caption) for caption in captions]
    return {"captions": captions, "rows": rows, "lengths": lengths, "cleaned": cleaned, "decoded": decoded}


def small_tokenizers(captions):
    """Builds small tokenizers of the three kinds that OpenCLIP's models use."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    def save(name, tokenizer, **special):
        folder = DATA / name
        folder.mkdir(parents=True, exist_ok=True)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
        for file in folder.iterdir():
            if file.name not in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
                file.unlink()

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    bert = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer()
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.decoder = decoders.WordPiece()
    bert.train_from_iterator(captions, trainers.WordPieceTrainer(vocab_size=700, special_tokens=special, show_progress=False))
    ids = {token: bert.token_to_id(token) for token in special}
    bert.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    # The begin and end tokens are for OpenCLIP's `clips` mode.
    roles = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    save("wordpiece", bert, bos_token="[unused1]", eos_token="[unused2]", **roles)

    roberta = Tokenizer(models.BPE(unk_token="<unk>"))
    roberta.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    roberta.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    roberta.train_from_iterator(
        captions,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=special,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    roberta.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    save("bpe", roberta, bos_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>")

    t5 = Tokenizer(models.Unigram())
    t5.pre_tokenizer = pre_tokenizers.Metaspace()
    t5.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    t5.train_from_iterator(
        captions,
        trainers.UnigramTrainer(vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    t5.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    # As SigLIP's tokenizer: padded with the end of the text; and on the left, as no other here.
    save("unigram", t5, eos_token="</s>", pad_token="</s>", unk_token="<unk>", padding_side="left")


def hf(captions):
    small_tokenizers([c for c in captions if c.isascii()])
    cases = []
    for folder, length, options in [
        ("wordpiece", 77, {}),
        ("wordpiece", 32, {"strip_sep_token": True}),
        ("wordpiece", 16, {"tokenizer_mode": "clips"}),
        ("bpe", 77, {}),
        ("bpe", 12, {"clean": "lower"}),
        ("unigram", 64, {"clean": "canonicalize"}),
        ("unigram", 8, {}),
    ]:
        tokenizer = HFTokenizer(str(DATA / folder), context_length=length, **options)
        cases.append(
            {
                "folder": folder,
                "context_length": length,
                "options": options,
                "rows": tokenizer(captions).tolist(),
            }
        )
    return {"captions": captions, "cases": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, help="number of random captions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz.json.gz"))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    if args.fuzz:
        tokenizer = SimpleTokenizer()
        captions = [random_caption(rng) for _ in range(args.fuzz)]
        # Python's own tables end at an older Unicode than the tokenizers' do.
        captions = [c for c in captions if all(map(assigned, tokenizer.clean_fn(c)))]
        write(args.out, {"captions": captions, "rows": [row(tokenizer, caption) for caption in captions]})
        return
    captions = corpus(rng)
    write(DATA / "captions.json.gz", clip(captions))
    write(DATA / "hf.json.gz", hf([c for c in rng.sample(captions, 250) if "\0" not in c]))


if __name__ == "__main__":
    main()
