"""The command line itself: what is said at once, to whom, and in which form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "diffusers", "accelerate", "transformers", "apache_beam", "distributed")
RUN_ALL = f"""
import contextlib, io, json, sys
from controlmill.__main__ import main
said = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["controlmill", *words]
    error, code = io.StringIO(), 0
    with contextlib.redirect_stderr(error):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    said.append([code, error.getvalue(), [name for name in {HEAVY} if name in sys.modules]])
print(json.dumps(said))
"""
BAD_USE = [
    ("build /no/such NEW", "no such folder"),
    ("build PHOTOS NEW --conditions hed --dtype int8", "--dtype int8: choose auto"),
    ("annotate DATASET --conditions cany", "no condition is called 'cany'"),
    ("annotate DATASET --conditions hed --device tpu", "--device tpu: choose auto"),
    ("encode EMPTY", "is not a dataset"),
    ("encode DATASET --base /no/such", "no such file or folder"),
    ("train DATASET NEW", "say which table to train on; there are: canny, hough, cartoon"),
    ("train EMPTY NEW --condition canny", "is not a dataset"),
    ("train DATASET NEW --condition canny --recipe nope", "no recipe 'nope'"),
    ("train DATASET NEW --condition canny --rate=-1", "--rate is above 0"),
    ("train DATASET NEW --condition hed", "has no condition 'hed'"),
    ("train DATASET NEW --condition canny --where nope>1", "has no column 'nope'"),
    ("train DATASET NEW --condition canny --base /no/such --plan", "no such file or folder"),
    ("train DATASET DATASET --condition canny", "is not empty and not a run"),
    ("train DATASET EMPTY --condition canny --resume", "is not a run"),
    ("sample EMPTY", "is not a run"),
    ("export-weights /no/such", "no such folder"),
    ("export-weights DATASET --dtype int8", "fp32, fp16 or bf16"),
    ("inspect EMPTY", "is not a dataset"),
    ("verify EMPTY", "is not a dataset"),
]


def test_bad_use_is_said_before_anything_heavy_is_loaded(dataset: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    names = {"PHOTOS": photos, "DATASET": dataset, "EMPTY": tmp_path / "empty", "NEW": tmp_path / "new"}
    lines = [[str(names.get(word, word)) for word in words.split()] for words, _ in BAD_USE]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(lines)], capture_output=True, text=True, check=True
    )  # one process for all: what any of them loads stays loaded, and fails those after it too
    for (words, said), (code, error, heavy) in zip(BAD_USE, json.loads(done.stdout), strict=True):
        assert code == 1, words
        assert said in error, words
        assert error.startswith("controlmill: ")
        assert heavy == [], words
    assert not (tmp_path / "new").exists()
