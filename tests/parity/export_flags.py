#!/usr/bin/env python3
"""The flags of OpenCLIP's trainer.

data/flags.json: {release: {flag: [values, default, choices]}} with values "none", "one" or "many" and choices left out where there are
none. `--main FILE` is `src/open_clip_train/params.py` of the main branch.

Needs `pip install open_clip_torch==3.3.0`.
"""

import argparse
import importlib.util
import json
from pathlib import Path
from unittest import mock

DATA = Path(__file__).resolve().parent / "data"


class Stop(Exception):
    pass


def flags(path: str) -> dict:
    spec = importlib.util.spec_from_file_location("params", path)
    params = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(params)
    found = {}

    def collect(parser, _):
        for action in parser._actions:
            several = action.nargs in ("+", "*") or isinstance(action, argparse._AppendAction)
            values = "none" if action.nargs == 0 else "many" if several else "one"
            default = action.default if values == "one" else None
            row = [values, default, list(action.choices)] if action.choices else [values, default]
            found.update({option[2:]: row for option in action.option_strings if option not in ("-h", "--help")})
        raise Stop

    with mock.patch.object(argparse.ArgumentParser, "parse_args", collect):
        try:
            params.parse_args([])
        except Stop:
            return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--main", required=True)
    parser.add_argument("--output", type=Path, default=DATA / "flags.json")
    args, _ = parser.parse_known_args()
    release = importlib.util.find_spec("open_clip_train.params").origin
    tables = {"3.3.0": flags(release), "main": flags(args.main)}
    text = ",\n".join(
        f' {json.dumps(name)}: {{\n' + ",\n".join(f"  {json.dumps(flag)}: {json.dumps(row)}" for flag, row in table.items()) + "\n }"
        for name, table in tables.items()
    )
    args.output.write_text("{\n" + text + "\n}\n")
    print({name: len(table) for name, table in tables.items()})


if __name__ == "__main__":
    main()
