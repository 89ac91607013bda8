#!/usr/bin/env python3
"""Which weights timm loads for the towers of OpenCLIP's configurations.

Prints the rows of `crates/model/src/vision/timm/published.rs`: name of the tower, and the tag of `timm/NAME.TAG` on the Hugging Face hub
or another repository. `--check` compares with the file.

Needs `pip install timm==1.0.31`.
"""

import argparse
import json
from pathlib import Path

from timm.models import get_pretrained_cfg

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "crates/model/src/vision/timm/published.rs"


def rows() -> list[str]:
    configs = [json.loads(path.read_text()) for path in sorted((ROOT / "configs/models").glob("*.json"))]
    names = {config["vision_cfg"].get("timm_model_name") for config in configs} - {None}
    found = []
    for name in sorted(names):
        repository = get_pretrained_cfg(name).hf_hub_id
        found.append(f'    ("{name}", "{repository.removeprefix(f"timm/{name}.")}"),')
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        listed = [line for line in TABLE.read_text().splitlines() if line.startswith('    ("')]
        assert listed == rows(), set(listed) ^ set(rows())
        print(f"{len(listed)} towers")
    else:
        print("\n".join(rows()))


if __name__ == "__main__":
    main()
