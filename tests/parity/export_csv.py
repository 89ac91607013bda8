#!/usr/bin/env python3
"""Small tables with quotes, blanks and line ends in every place, and the rows that pandas' C parser reads from them.

Output data/csv.json: a list of [text, rows], where rows is null for a quote that is never closed and for rows with more fields than the header.

Needs `pip install pandas`.
"""

import io
import json
import random
from pathlib import Path

import pandas

HEADER = "filepath,title\n"
BY_HAND = [
    'a,"b\n',
    'a,"b"\n',
    'a,b"c\n',
    'a,"b""c"\n',
    'a,"b"c\n',
    'a,"b"c"d\n',
    'a,"b\nc"\n',
    'a,"b\r\nc"\r\nd,e\r\n',
    '"a","b"',
    'a, "b"\n',
    "a,b\rc,d\r",
    "a,b\r\n\r\nc,d",
    "a,b\n  \nc,d\n",
    "a\nb,c\n",
    "a,\n",
    ",b\n",
    'a,""\n',
    'a,""""\n',
    'a,"\n',
    '"\na,b\n',
]


def rows(text: str):
    try:
        table = pandas.read_csv(io.StringIO(HEADER + text), sep=",", dtype=str, keep_default_na=False, engine="c")
    except pandas.errors.ParserError:
        return None
    # A first row that is too long makes pandas take its first field for an index.
    if not isinstance(table.index, pandas.RangeIndex):
        return None
    return table.fillna("").values.tolist()


random.seed(1)
texts = list(BY_HAND)
while len(texts) < 400:
    text = "".join(random.choices('ab,"\n\r ', (4, 2, 6, 6, 3, 1, 2), k=random.randint(3, 16)))
    # pandas loses a field where a line that ends with \r is followed by an empty field.
    if "\r," not in text:
        texts.append(text)
cases = [[HEADER + text, rows(text)] for text in texts]
out = Path(__file__).resolve().parent / "data" / "csv.json"
out.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
