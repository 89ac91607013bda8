#!/usr/bin/env python3
"""Small tokenizers of the kinds that Hugging Face text towers have, and the ids that upstream OpenCLIP makes with them.

Under data/tokens/:
  roberta/, xlm_roberta/, nllb/   `tokenizer.json` and settings, as transformers writes them; NLLB's frames captions in the old way,
                                  which transformers overrides
  mt5/spiece.model                SentencePiece's own file, which is all that mT5 is published with, and settings
  hf_text.json.gz                 captions and, for each folder and its options, their ids

The option `language` has the effect that it has in OpenCLIP 2.29: in 3.3.0 transformers goes back to its own before each caption.
Needs `pip install open_clip_torch==3.3.0 transformers==5.23.0 sentencepiece protobuf`.
"""

import json
import random
import tempfile
from pathlib import Path

import sentencepiece
from export_tokens import DATA, SENTENCES, plain_caption, write
from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import NllbTokenizer, RobertaTokenizer, XLMRobertaTokenizer

LANGUAGES = ["eng_Latn", "fra_Latn", "zho_Hans"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def captions():
    rng = random.Random(11)
    found = ["", " ", "a", "  a   photo\tof  a dog ", "</s> and <pad> <mask> <unk><s>", "eng_Latn fra_Latn", "word " * 90, "x" * 200]
    found += SENTENCES
    return found + [plain_caption(rng) for _ in range(300)]


def trained(model, splits, trainer, texts):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = splits
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())["model"]


def merges(model):
    return [tuple(pair) for pair in model["merges"]]


def save(tokenizer, name):
    tokenizer.save_pretrained(DATA / name)


def roberta(texts):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    model = trained(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainer, texts)
    save(RobertaTokenizer(vocab={**model["vocab"], "<mask>": len(model["vocab"])}, merges=merges(model)), "roberta")


def xlm_roberta(texts):
    splits = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    model = trained(models.Unigram(), splits, trainer, texts)
    save(XLMRobertaTokenizer(vocab=[*map(tuple, model["vocab"]), ("<mask>", 0.0)]), "xlm_roberta")


def nllb(texts):
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False)
    model = trained(models.BPE(unk_token="<unk>", fuse_unk=True), pre_tokenizers.Metaspace(), trainer, texts)
    save(NllbTokenizer(vocab=model["vocab"], merges=merges(model), extra_special_tokens=LANGUAGES), "nllb")
    path = DATA / "nllb/tokenizer.json"
    content = json.loads(path.read_text())
    single = content["post_processor"]["single"]
    content["post_processor"]["single"] = [*single[1:], single[0]]
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def mt5(texts):
    folder = DATA / "mt5"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        rules = Path(work) / "rules.tsv"
        # Full-width letters, a ligature and quotes: a table of normalisation that is small.
        pairs = [(chr(0xFF21 + i), chr(65 + i)) for i in range(26)] + [("ﬁ", "fi"), ("“", '"'), ("”", '"'), ("\u3000", " ")]
        rules.write_text("".join(f"{ord(a):X}\t{' '.join(f'{ord(c):X}' for c in b)}\n" for a, b in pairs))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_prefix=f"{work}/spiece", vocab_size=400, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            normalization_rule_tsv=str(rules), user_defined_symbols=["<extra>"], minloglevel=2,
        )  # fmt: skip
        (folder / "spiece.model").write_bytes((Path(work) / "spiece.model").read_bytes())
    settings = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")


CASES = [
    ("roberta", 77, {}),
    ("roberta", 9, {"clean": "lower"}),
    ("xlm_roberta", 77, {}),
    ("xlm_roberta", 7, {"clean": "canonicalize"}),
    ("nllb", 77, {}),
    ("nllb", 8, {"language": "fra_Latn"}),
    ("mt5", 77, {}),
    ("mt5", 77, {"clean": "canonicalize"}),
    ("mt5", 6, {}),
]


def main():
    texts = captions()
    for make in (roberta, xlm_roberta, nllb, mt5):
        make([text for text in texts if text.isascii() and text.strip()])
    cases = []
    for folder, length, options in CASES:
        tokenizer = HFTokenizer(str(DATA / folder), context_length=length, **options)
        if "language" in options:
            tokenizer.tokenizer.src_lang = options["language"]
        rows = tokenizer(texts).tolist()
        cases.append({"folder": folder, "context_length": length, "options": options, "rows": rows})
        print(folder, options, type(tokenizer.tokenizer).__name__, rows[2], rows[4][:12])
    write(DATA / "hf_text.json.gz", {"captions": texts, "cases": cases})


if __name__ == "__main__":
    main()
