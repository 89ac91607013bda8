"""What an exporter of a model family is: its cases, and what is peculiar to the family.

A case is <case>.safetensors with
  weights/<key>                                      state dict
  input/image                                        i8 [B, 3, H, W], 32 times the normalised pixels
  input/text                                         i64 [B, context]
  output/{image,text}_features                       f32 [B, embed] in evaluation mode
  output/{image,text}_features_norm                  the same with unit length
  output/loss                                        f32 [], `ClipLoss`
  grad/<key>                                         gradient of that loss of every parameter that has one
and <case>.json with its `model_cfg`. `tests/src/family.rs` reads both. Beside them lie, where a family has them,
  parameters.json       of every configuration of the family, as `export_profile.py` writes it
  init.json             of small models, as `export_init.py` writes it
  resize.safetensors    cases after `set_input_size`: <case>/<height>x<width>/{image,features,<key of a parameter that is fitted>}
  sizes.safetensors     cases that take pictures of any size as they are: <case>/<height>x<width>/{image,features}
  drop_path.json        [{name, rate, shares of every block}] of stochastic depth in timm's models; a rate of null is the model's own

Every exporter takes the same options:
  --output DIR          instead of the family's folder under data/
  --fuzz SEED COUNT     models of random valid configurations instead, which the ignored test `random_models` compares:
                          export_models.py --fuzz 1 60 --output DIR
                          OPENCLIP_PARITY_DIR=DIR cargo test --release -p openclip-tests --test parity -- --ignored models::random_models
  --saved DIR           loads every <case>.saved.safetensors that the ignored test `save_for_open_clip` wrote there, strictly
"""

import argparse
import copy
import functools
import json
from contextlib import contextmanager
from pathlib import Path

import export_init
import export_profile
import timm
import torch
import upstream
from safetensors.torch import load_file


class Family:
    """`name` is the folder under data/, `seed` that of the first of the `cases`, each a `config` with the size of a `batch`.

    `initial` are cases of fresh weights, `configurations` the names of upstream's configurations, or patterns of them.
    """

    def __init__(self, name: str, seed: int, cases: dict, initial: dict | None = None, configurations=()):
        self.name, self.seed, self.cases = name, seed, cases
        self.initial, self.configurations = initial or {}, configurations
        self.data = Path(__file__).resolve().parent / "data" / name

    # What a family may know better.

    def create(self, config: dict, name: str, **options) -> torch.nn.Module:
        return upstream.create(config, name, **options)

    def unsettle(self, model, config: dict):
        """Moves off their neutral values what `upstream.perturb` does not know."""

    def inputs(self, model, config: dict, batch: int):
        return upstream.inputs(model, config, batch)

    def evaluate(self, model, image, text) -> dict:
        """Tensors under output/ and grad/."""
        return upstream.evaluate(model, image, text)

    def record(self, name: str, model, image, text) -> tuple[dict, dict]:
        """What is kept of a case: results, and what its JSON says of them."""
        found = self.evaluate(model, image, text)
        exact = self.evaluate(upstream.in_f64(model), image.double(), text)
        return found, {"float32_error_of_torch": upstream.deviation(found, exact)}

    # What all have.

    def build(self, config: dict, seed: int) -> torch.nn.Module:
        """In evaluation mode, with every weight moved off its neutral value."""
        torch.manual_seed(seed)
        model = self.create(config, f"parity-{seed}", output_dict=True)
        upstream.perturb(model)
        self.unsettle(model, config)
        return model.eval()

    def stored(self, name: str, output: Path, seed: int = 1) -> torch.nn.Module:
        """The model of a case that is written already; the next random numbers follow from the seed."""
        model = self.build(self.cases[name]["config"], seed)
        model.load_state_dict(upstream.stored_weights(output / f"{name}.safetensors"))
        return model

    def export(self, name: str, case: dict, seed: int, output: Path) -> str:
        """Writes a case. Returns a line about it."""
        model = self.build(case["config"], seed)
        image, text = self.inputs(model, case["config"], case["batch"])
        found, about = self.record(name, model, image, text)
        tensors = {**upstream.weights(model), "input/image": upstream.in_bytes(image), "input/text": text, **found}
        assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
        path = output / f"{name}.safetensors"
        upstream.save(tensors, path)
        description = {"case": name, "model_cfg": case["config"], "seed": seed, **about, "versions": upstream.VERSIONS}
        path.with_suffix(".json").write_text(json.dumps(description, indent=1) + "\n")
        return f"{name:22} {path.stat().st_size // 1000:4} kB  {json.dumps(about)}"

    def export_parameters(self, output: Path):
        names = [n for p in self.configurations for n in sorted(path.stem for path in export_profile.CONFIGS.glob(f"{p}.json"))]
        export_profile.write_parameters(names, output / "parameters.json")

    def fresh(self, config: dict, name: str):
        """Models of several seeds as upstream initialises them."""
        for seed in range(export_init.SEEDS):
            torch.manual_seed(seed)
            yield self.create(config, f"init-{self.name.replace('_', '-')}-{name}")

    def export_initial_weights(self, output: Path):
        cases = {name: case["config"] for name, case in self.initial.items()}
        found = {name: export_init.moments(config, self.fresh(config, name)) for name, config in cases.items()}
        (output / "init.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")

    def check(self, folder: Path):
        """Loads what the test `save_for_open_clip` wrote, strictly, and compares every value."""
        for name, case in self.cases.items():
            model = self.build(case["config"], 7)
            saved = load_file(folder / f"{name}.saved.safetensors")
            counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked") and k not in saved}
            model.load_state_dict({**saved, **counters}, strict=True)
            stored = upstream.stored_weights(self.data / f"{name}.safetensors")
            for key, value in model.state_dict().items():
                assert key in counters or torch.equal(value, stored[key]), (name, key)
        print(f"{len(self.cases)} models of {folder} load strictly, every value is the same")

    def main(self, doc: str, random_case, others=lambda output: None):
        """The command line: the cases, what the family has, and `others`, if the options do not say otherwise."""
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--output", type=Path, default=self.data)
        parser.add_argument("--fuzz", type=int, nargs=2, metavar=("SEED", "COUNT"), help="random models instead")
        parser.add_argument("--saved", type=Path, help="checks what the test `save_for_open_clip` wrote there instead")
        args = parser.parse_args()
        torch.set_num_threads(1)
        if args.saved:
            return self.check(args.saved)
        args.output.mkdir(parents=True, exist_ok=True)
        if args.fuzz:
            first, count = args.fuzz
            for number in range(first, first + count):
                print(self.export(f"random_{number}", random_case(number), number, args.output))
            return None
        for i, (name, case) in enumerate(self.cases.items()):
            print(self.export(name, case, self.seed + i, args.output))
        if self.configurations:
            self.export_parameters(args.output)
        if self.initial:
            self.export_initial_weights(args.output)
        return others(args.output)


class Timm(Family):
    """A family whose image towers are timm's, made smaller by the arguments under `timm_kwargs` of `vision_cfg`, a key that upstream
    does not know."""

    def arguments(self, vision: dict, kwargs: dict) -> dict:
        """What `timm.create_model` is called with for a `vision_cfg` and its `timm_kwargs`."""
        return {"img_size": vision["image_size"], **kwargs}

    def unsettle(self, model, config):
        perturb(model.visual)

    @contextmanager
    def trunk(self, config: dict):
        """Lets OpenCLIP's adapter make a timm model of other sizes than its name says, from the configuration that this yields."""
        plain = copy.deepcopy(config)
        kwargs = self.arguments(plain["vision_cfg"], plain["vision_cfg"].pop("timm_kwargs"))
        original = timm.create_model
        timm.create_model = functools.partial(original, **kwargs)
        try:
            yield plain
        finally:
            timm.create_model = original

    def create(self, config, name, **options):
        with self.trunk(config) as plain:
            return super().create(plain, name, **options)

    @torch.no_grad()
    def pictures(self, sizes: dict, file: Path, fit: bool, parameters=()):
        """Features of cases, which are written already, for pictures of other sizes, `fit` for them or not."""
        tensors = {}
        for name, height, width in ((name, *size) for name, all_sizes in sizes.items() for size in all_sizes):
            model = self.stored(name, file.parent)
            if fit:
                model.visual.set_input_size((height, width))
            image = upstream.pixels(1, 3, height, width)
            found = {"image": upstream.in_bytes(image), "features": model.encode_image(image)}
            found |= {key: model.get_parameter(key) for key in parameters}
            tensors |= upstream.prefixed(f"{name}/{height}x{width}", found)
        upstream.save(tensors, file)

    def export_resized(self, sizes: dict, output: Path, parameters=("visual.trunk.pos_embed",)):
        self.pictures(sizes, output / "resize.safetensors", True, parameters)

    def export_sizes(self, sizes: dict, output: Path, fit=False):
        self.pictures(sizes, output / "sizes.safetensors", fit)

    def export_drop_path(self, rates, output: Path):
        """Of timm models by name and rate, which is the model's own for None. ViTamin's convolutions have a rate of zero."""
        found = []
        for name, rate in rates:
            with torch.device("meta"):
                trunk = timm.create_model(name, **({} if rate is None else {"drop_path_rate": rate}))
            blocks = {}
            for place, module in trunk.named_modules():
                block, _, leaf = place.rpartition(".")
                if leaf.startswith("drop_path") and not block.startswith("patch_embed."):
                    blocks.setdefault(block, set()).add(getattr(module, "drop_prob", 0.0))
            assert all(len(shares) == 1 for shares in blocks.values())
            found.append({"name": name, "rate": rate, "shares": [share for (share,) in blocks.values()]})
        (output / "drop_path.json").write_text(json.dumps(found) + "\n")


@torch.no_grad()
def perturb(tower, shifted=("bias",), gamma=0.6, weights=None):
    """Every parameter of a timm tower off its neutral value: scales around 1 and `gamma`, those that end in `shifted` moved a little, the
    others redrawn, or what `weights(name, parameter, noise)` makes of them."""
    for name, parameter in tower.named_parameters():
        noise = torch.randn_like(parameter)
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "gamma":
            parameter.copy_(gamma + 0.2 * noise)
        elif parameter.ndim == 1 and leaf == "weight":
            parameter.copy_(1 + 0.2 * noise)
        elif leaf.endswith(shifted):
            parameter.add_(0.2 * noise)
        elif weights:
            parameter.copy_(weights(name, parameter, noise))
        else:
            parameter.copy_(redrawn(parameter, noise))


def redrawn(parameter, noise):
    """Noise that leaves the size of what passes through a layer as it is."""
    return parameter[0].numel() ** -0.5 * noise
