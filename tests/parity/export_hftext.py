#!/usr/bin/env python3
"""Small random models of upstream OpenCLIP with Hugging Face text towers, and what belongs to that family. `family.py` describes the
files under data/hftext/ and the options, but that loss and gradients are of training mode with the dropout masks that
`layers/dropout.rs` draws for the seed 0, and for
  encoders/<kind>/       a language model as its publishers save it, and `encoder.safetensors`, what upstream takes of it

The encoders are made smaller by the values under `hf_model_config` of `text_cfg`, which change the `config.json` of the model that
`hf_model_name` names; OpenCLIP 3.3 reads the result from a folder. The `max_pooler` of that release looks at the padding instead of
the tokens and stops on captions without padding; it is exported as its later versions compute it.

Needs `pip install open_clip_torch==3.3.0 transformers==5.23.0`.
"""

import copy
import functools
import random
import tempfile
from contextlib import contextmanager
from unittest import mock

import family
import open_clip
import torch
import transformers
import upstream
from noise import Noise
from open_clip import hf_model

# Of the dropout masks.
SEED = 0


def roberta(vocab, width, layers, kind="xlm-roberta"):
    return {
        "model_type": kind, "vocab_size": vocab, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64,
        "intermediate_size": 4 * width, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1,
        "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip


def mt5(width, hidden, layers, heads):
    return {
        "model_type": "mt5", "vocab_size": 250112, "d_model": width, "d_kv": 64, "d_ff": hidden, "num_layers": layers,
        "num_decoder_layers": layers, "num_heads": heads, "feed_forward_proj": "gated-gelu", "pad_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip


def nllb(layers, hidden):
    return {
        "model_type": "m2m_100", "vocab_size": 256206, "d_model": 1024, "encoder_layers": layers, "encoder_ffn_dim": hidden,
        "decoder_layers": layers, "decoder_ffn_dim": hidden, "encoder_layerdrop": 0, "decoder_layerdrop": 0, "pad_token_id": 1,
    }  # fmt: skip


# The published `config.json` of each name, as far as an encoder depends on it.
BASES = {
    "roberta-base": roberta(50265, 768, 12, "roberta"),
    "xlm-roberta-base": roberta(250002, 768, 12),
    "xlm-roberta-large": roberta(250002, 1024, 24),
    "google/mt5-base": mt5(768, 2048, 12, 12),
    "google/mt5-xl": mt5(2048, 5120, 24, 32),
    "facebook/nllb-200-distilled-600M": nllb(12, 4096),
    "facebook/nllb-200-distilled-1.3B": nllb(24, 8192),
    "bert-base-uncased": {"model_type": "bert", "vocab_size": 30522, "pad_token_id": 0},
}
NAMES = (
    "roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "xlm-roberta-large-ViT-H-14", "mt5-base-ViT-B-32", "mt5-xl-ViT-H-14",
    "nllb-clip-base", "nllb-clip-base-siglip", "nllb-clip-large", "nllb-clip-large-siglip", "coca_roberta-ViT-B-32",
    "ViT-L-14-worldwide", "ViT-L-14-worldwide-quickgelu", "ViT-H-14-worldwide", "ViT-H-14-worldwide-378",
    "ViT-H-14-worldwide-quickgelu", "ViT-bigG-14-worldwide", "ViT-bigG-14-worldwide-378",
)  # fmt: skip

NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "mt5": {"dropout_rate": 0.0},
    "m2m_100": {"dropout": 0.0, "attention_dropout": 0.0, "encoder_layerdrop": 0.0},
}
SMALL = {
    "bert": {
        "vocab_size": 24, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 10,
        "max_position_embeddings": 16, "type_vocab_size": 2,
    },
    "mt5": {
        "vocab_size": 24, "d_model": 7, "d_kv": 3, "d_ff": 10, "num_layers": 2, "num_heads": 3, "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 9,
    },
    "m2m_100": {"vocab_size": 24, "d_model": 8, "encoder_layers": 2, "encoder_ffn_dim": 10, "encoder_attention_heads": 2},
}  # fmt: skip


def kind_of(name):
    kind = BASES[name]["model_type"]
    return "bert" if "bert" in kind else kind


def case(name, model=None, text=None, vision=None, batch=5, dropout=False, embed_dim=8, **top):
    vision_cfg = {"image_size": 10, "patch_size": 5, "width": 6, "head_width": 3, "layers": 1, **(vision or {})}
    kind = kind_of(name)
    encoder = {**SMALL[kind], **({} if dropout else NO_DROPOUT[kind]), **(model or {})}
    text_cfg = {"hf_model_name": name, "hf_tokenizer_name": name, "context_length": 13, "hf_model_config": encoder, **(text or {})}
    return {"config": {"embed_dim": embed_dim, **top, "vision_cfg": vision_cfg, "text_cfg": text_cfg}, "batch": batch}


def pooler(name):
    return {"hf_pooler_type": name, "hf_proj_type": "linear"}


NLLB = "facebook/nllb-200-distilled-600M"
CASES = {
    "roberta_mean": case("roberta-base", quick_gelu=True),
    "roberta_cls": case("roberta-base", {"max_position_embeddings": 15, "pad_token_id": 1}, pooler("cls_pooler")),
    "roberta_max": case("xlm-roberta-base", text={"hf_pooler_type": "max_pooler", "hf_proj_type": None}),
    "roberta_first": case(
        "xlm-roberta-large", {"layer_norm_eps": 1e-3, "hidden_act": "gelu_new"}, pooler("cls_last_hidden_state_pooler"), custom_text=True
    ),
    "roberta_dropout": case("roberta-base", dropout=True),
    "bert_own_pool": case("bert-base-uncased", text={"hf_pooler_type": None, "hf_proj_type": "linear"}),
    "mt5_mean": case("google/mt5-base", vision={"image_size": [13, 7]}),
    "mt5_max": case("google/mt5-xl", {"relative_attention_num_buckets": 32}, pooler("max_pooler")),
    "mt5_dropout": case("google/mt5-base", {"dropout_rate": 0.2}, pooler("cls_pooler"), dropout=True),
    "nllb_cls": case(NLLB, text=pooler("cls_pooler"), custom_text=True, init_logit_bias=-10),
    "nllb_mean": case(NLLB, {"scale_embedding": False, "d_model": 10, "encoder_attention_heads": 1}, {"hf_pooler_type": "mean_pooler"}),
    "nllb_dropout": case(
        NLLB, {"activation_dropout": 0.2, "encoder_layerdrop": 0.4, "encoder_layers": 4}, pooler("cls_pooler"), dropout=True
    ),
}


def max_pooler(self, x, attention_mask):
    return x.last_hidden_state.masked_fill(~attention_mask.bool().unsqueeze(-1), -torch.inf).max(1).values


hf_model.MaxPooler.forward = max_pooler


def encoder_config(text_cfg):
    fields = {**BASES[text_cfg["hf_model_name"]], **text_cfg.get("hf_model_config", {})}
    # Upstream builds the decoder too, and throws it away.
    if fields["model_type"] == "m2m_100":
        fields |= {"decoder_attention_heads": fields.get("encoder_attention_heads", 16), "decoder_layers": 1, "decoder_ffn_dim": 4}
    elif fields["model_type"] == "mt5":
        fields["num_decoder_layers"] = 1
    return transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)


@contextmanager
def training(model):
    noise, layer_drop = Noise(SEED), getattr(model.text.config, "encoder_layerdrop", 0.0)
    model.train()
    model.text.transformer.set_attn_implementation("eager")
    rand = lambda *_, **__: torch.tensor(1.0 if noise.kept(1, layer_drop)[0] else 0.0)
    with mock.patch.object(torch.nn.functional, "dropout", noise.dropout), mock.patch.object(torch, "rand", rand):
        yield
    model.eval()


def captions(batch, context, encoder):
    """Short, full, empty, with a hole of padding, then of random lengths; special tokens as each family's tokenizer puts them."""
    pad = encoder.pad_token_id
    kind = encoder.model_type
    start, end = {"mt5": ([], 1), "m2m_100": ([encoder.vocab_size - 2], 2), "bert": ([3], 4)}.get(kind, ([0], 2))
    room = context - len(start) - 1
    rows = torch.full((batch, context), pad, dtype=torch.int64)
    for i in range(batch):
        length = [2, room, 0][i] if i < 3 else int(torch.randint(1, room + 1, ()))
        words = torch.randint(5, encoder.vocab_size - 2, (length,)).tolist()
        if i == 3 and length > 1:
            words[length // 2] = pad
        row = [*start, *words, end]
        rows[i, : len(row)] = torch.tensor(row)
    return rows


class HfText(family.Family):
    def create(self, config, name, **options):
        """From the configuration as OpenCLIP 3.3 knows it; with random weights, of the encoder too."""
        config = copy.deepcopy(config)
        text_cfg = config["text_cfg"]
        encoder = encoder_config(text_cfg)
        text_cfg.pop("hf_model_config", None)
        with tempfile.TemporaryDirectory() as folder:
            encoder.save_pretrained(folder)
            text_cfg["hf_model_name"] = folder
            return super().create(config, name, pretrained_hf=False, **options)

    @torch.no_grad()
    def unsettle(self, model, config):
        """What `upstream.perturb` does, under transformers' names."""
        for name, parameter in model.text.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.add_(0.2 * noise)
            elif "relative_attention_bias" in name or "embed" in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(family.redrawn(parameter, noise))

    def inputs(self, model, config, batch):
        image = upstream.pixels(batch, 3, *model.visual.image_size)
        return image, captions(batch, config["text_cfg"]["context_length"], model.text.config)

    def evaluate(self, model, image, text):
        return upstream.evaluate(model, image, text, functools.partial(training, model))

    def record(self, name, model, image, text):
        found, about = super().record(name, model, image, text)
        return found, about | {"transformers": transformers.__version__}

    def export_parameters(self, output):
        def described(name):
            config = open_clip.factory.get_model_config(name)
            if "hf_model_name" in config["text_cfg"]:
                config["custom_text"] = True
                config["text_cfg"]["hf_model_pretrained"] = False
            return config

        named = lambda name, **_: encoder_config({"hf_model_name": name})
        with mock.patch.object(hf_model.AutoConfig, "from_pretrained", named), mock.patch.object(open_clip, "get_model_config", described):
            super().export_parameters(output)


def random_case(seed):
    draw = random.Random(seed)
    pick = draw.choice
    name = pick(["roberta-base", "xlm-roberta-base", "bert-base-uncased", "google/mt5-base", "google/mt5-xl", NLLB, NLLB])
    kind = kind_of(name)
    heads = draw.randint(1, 4)
    width = heads * 2 * draw.randint(1, 4)
    hidden, layers, vocab = draw.randint(3, 30), draw.randint(1, 3), draw.randint(12, 60)
    context = draw.randint(4, 20)
    embed_dim = draw.randint(2, 20)
    text = {"context_length": context}
    if kind == "bert":
        model = {
            "hidden_size": width, "num_attention_heads": heads, "intermediate_size": hidden, "num_hidden_layers": layers,
            "max_position_embeddings": context + draw.randint(2, 9), "type_vocab_size": draw.randint(1, 3),
            "hidden_act": pick(["gelu", "gelu_new", "relu"]), "layer_norm_eps": pick([1e-12, 1e-5, 1e-3]),
        }  # fmt: skip
    elif kind == "mt5":
        buckets = 4 * draw.randint(1, 10)
        model = {
            "d_model": width, "d_kv": draw.randint(1, 7), "num_heads": heads, "d_ff": hidden, "num_layers": layers,
            "relative_attention_num_buckets": buckets, "relative_attention_max_distance": buckets // 4 + draw.randint(1, 40),
        }  # fmt: skip
    else:
        model = {
            "d_model": max(width, 4), "encoder_attention_heads": heads, "encoder_ffn_dim": hidden, "encoder_layers": layers,
            "scale_embedding": pick([True, True, False]), "activation_function": pick(["relu", "gelu"]),
        }  # fmt: skip
    model["vocab_size"] = vocab
    dropout = pick([True, False])
    if dropout:
        share = lambda: pick([0.0, 0.1, 0.3])
        keys = {
            "bert": ["hidden_dropout_prob", "attention_probs_dropout_prob"],
            "mt5": ["dropout_rate"],
            "m2m_100": ["dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"],
        }
        model |= {key: share() for key in keys[kind]}
    text["hf_pooler_type"] = pick(["mean_pooler", "max_pooler", "cls_pooler", "cls_last_hidden_state_pooler", None])
    if pick([True, True, False]):
        text["hf_proj_type"] = pick(["linear", "mlp", None])
        if text["hf_proj_type"] is None:
            embed_dim = model.get("hidden_size", model.get("d_model"))
    top = {"custom_text": True} if pick([True, False]) else {}
    return case(name, model, text, None, draw.randint(4, 8), dropout, embed_dim, **top)


INIT = {
    "roberta": case("roberta-base", {"hidden_size": 48, "vocab_size": 300, "initializer_range": 0.05}, embed_dim=20),
    "roberta_pooler": case("xlm-roberta-base", {"hidden_size": 24}, pooler("cls_pooler")),
    "mt5": case("google/mt5-base", {"d_model": 48, "d_kv": 12, "vocab_size": 200, "d_ff": 100, "initializer_factor": 0.5}),
    "nllb": case(NLLB, {"d_model": 48, "vocab_size": 300}, pooler("cls_pooler")),
}


def export_encoders(output):
    """Language models as their publishers save them, and what upstream takes of them."""
    kinds = {"roberta": ("RobertaForMaskedLM", "roberta-base"), "mt5": ("MT5ForConditionalGeneration", "google/mt5-base")}
    kinds |= {"nllb": ("M2M100ForConditionalGeneration", NLLB)}
    for seed, (name, (kind, base)) in enumerate(kinds.items()):
        torch.manual_seed(seed)
        text_cfg = case(base)["config"]["text_cfg"]
        encoder = encoder_config(text_cfg)
        folder = output / "encoders" / name
        folder.mkdir(parents=True, exist_ok=True)
        getattr(transformers, kind)(encoder).save_pretrained(folder)
        for path in folder.glob("generation_config.json"):
            path.unlink()
        tower = hf_model.HFTextEncoder(str(folder), 8, pooler_type="mean_pooler", proj_type="mlp")
        upstream.save(tower.transformer.state_dict(), folder / "encoder.safetensors")


FAMILY = HfText("hftext", 6000, CASES, INIT, NAMES)


if __name__ == "__main__":
    FAMILY.main(__doc__, random_case, export_encoders)
