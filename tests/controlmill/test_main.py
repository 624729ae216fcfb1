"""The command line itself: what is said at once, to whom, and in which form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from controlmill.__main__ import app
from tests.helpers import command, digests

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
    ("build PHOTOS NEW --conditions hed --dtype int8", "--dtype int8: must be one of auto, fp32"),
    ("annotate DATASET --conditions cany", "no condition is called 'cany'"),
    ("annotate DATASET --conditions hed --device tpu", "--device tpu: must be auto, cpu"),
    ("encode EMPTY", "is not a dataset"),
    ("encode DATASET --base /no/such", "no such file or folder"),
    ("train DATASET NEW", "say which table to train on; there are: canny, hough, cartoon"),
    ("train EMPTY NEW --condition canny", "is not a dataset"),
    ("train DATASET NEW --condition canny --recipe nope", "no recipe 'nope'"),
    ("train DATASET NEW --condition canny --learning-rate=-1", "--learning-rate -1.0: must be above 0"),
    ("train DATASET NEW --condition hed", "has no condition 'hed'"),
    ("train DATASET NEW --condition canny --where nope>1", "has no column 'nope'"),
    ("train DATASET NEW --condition canny --base /no/such --estimate", "no such file or folder"),
    ("train DATASET DATASET --condition canny", "is not empty and not a run"),
    ("train DATASET EMPTY --condition canny --resume", "is not a run"),
    ("sample EMPTY", "give --image, a photo to annotate, or --control, a finished map"),
    ("export-weights /no/such", "no such folder"),
    ("export-weights DATASET --dtype int8", "--dtype int8: must be one of fp32, fp16, bf16"),
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


def test_quiet_says_errors_only_and_the_log_file_says_all(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "dataset")
    flags = ("--quiet", "--log-file", str(tmp_path / "log.txt"))
    done = command("annotate", str(tmp_path / "dataset"), "--conditions", "canny", *flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[0].split(maxsplit=1)[1].startswith("table ")
    assert "other tables, not changed: images, hough, cartoon" in " ".join(lines)
    assert all(datetime.fromisoformat(line.split()[0]) for line in lines)
    refused = command("annotate", str(tmp_path / "dataset"), "--conditions", "canny=1:2", *flags)
    assert refused.returncode == 1
    assert "controlmill: canny was made in another way" in refused.stderr
    assert "controlmill: canny was made in another way" in (tmp_path / "log.txt").read_text()


def test_bash_completes_commands_and_options() -> None:
    script = str(Path(sys.executable).parent / "controlmill")

    def completed(words: str, number: int) -> list[str]:
        asked = {"_CONTROLMILL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        done = subprocess.run([script], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("controlmill ann", 1) == ["annotate"]
    assert completed("controlmill train --connec", 2) == ["--connection"]
    assert completed("controlmill train --connection g", 3) == ["gaussian"]


def commands(group: Any) -> Iterator[Any]:
    """All commands, those of groups too."""
    for one in group.commands.values():
        yield from commands(one) if hasattr(one, "commands") else [one]


def test_every_flag_has_a_sentence_of_help_and_long_lists_have_panels() -> None:
    for one in commands(typer.main.get_command(app)):
        flags = [flag for flag in one.params if flag.param_type_name == "option" and not flag.hidden]
        assert all(flag.help and flag.help.endswith(".") for flag in flags), one.name
        assert len([flag for flag in flags if not flag.rich_help_panel]) <= 12, one.name


def test_an_option_has_the_same_help_wherever_it_is() -> None:
    found: dict[str, set[str]] = {}
    for one in commands(typer.main.get_command(app)):
        for flag in (flag for flag in one.params if flag.param_type_name == "option" and not flag.hidden):
            found.setdefault(flag.name, set()).add(flag.help.split(";")[0].split(". ")[0].removesuffix("."))
            assert "the hub" not in flag.help
    assert {name: found[name] for name in ("device", "precision", "prompts", "weights")} == {
        "device": {f"auto (the first GPU, else the CPU), cpu, cuda{more} or mps" for more in ("", ", cuda:N")},
        "precision": {"Number format that base and ControlNet compute in"},
        "prompts": {
            "Kinds of prompt: some of none, default, auto, user, with commas",
            "Kind of prompt whose pictures are ranked",
        },
        "weights": {"Folder with annotators' weight files, named as on the Hub"},
    }


def test_inspect_and_verify_print_json_alone(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "dataset")
    said = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "dataset"), "--json"]).stdout)
    assert (said["listed"], said["shards"], said["captions"]) == (13, 4, {"given": 5, "unread": 0})
    tables = {table["table"]: table for table in said["tables"]}
    assert list(tables) == ["images", "rejected", "canny", "hough", "cartoon"]
    assert (tables["images"]["rows"], sum(tables["images"]["refused"].values())) == (10, 3)
    assert tables["hough"]["provenance"]["annotator"]["variant"] == "lsd"
    whole = CliRunner().invoke(app, ["verify", str(tmp_path / "dataset"), "--json"])
    assert (whole.exit_code, json.loads(whole.stdout)) == (0, {"faults": [], "tables": 6, "shards": 4})
    (tmp_path / "dataset/canny/0000/00000001.parquet").unlink()
    broken = CliRunner().invoke(app, ["verify", str(tmp_path / "dataset"), "--json"])
    assert broken.exit_code == 1
    assert {"promise", "where", "found"} == set(json.loads(broken.stdout)["faults"][0])


def test_doctor_prints_json_alone() -> None:
    said = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    ways = {(way["condition"], way["variant"]): way for way in said["conditions"]}
    assert ways["canny", "random"]["ready"] is True
    assert ways["pose", "body"]["licence_gate"] == "openpose"
    assert {"name", "licence", "origin", "path", "from"} == set(ways["hed", "soft"]["weights"][0])
    assert said["devices"][-1]["name"] == "cpu"


def test_a_dry_run_tells_what_a_build_would_do_and_writes_nothing(photos: Path, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "dataset")
    shutil.rmtree(tmp_path / "dataset/hough")
    (tmp_path / "dataset/_tables/hough.json").unlink()
    (tmp_path / "dataset/cartoon/0000/00000001.parquet").unlink()
    before = digests(tmp_path)
    settings = ("--resolution", "128", "--min-side", "16", "--shard-size", "4", "--max-megapixels", "1", "--dry-run")

    def said(target: Path, *words: str) -> list[str]:
        done = CliRunner().invoke(app, ["build", str(photos), str(target), *settings, *words])
        assert done.exception is None, done.exception
        assert digests(tmp_path) == before
        return done.stderr.splitlines()

    begun = said(tmp_path / "dataset", "--conditions", "canny,hough=lsd,cartoon=standard", "--overwrite", "canny")
    for line in (
        "13 pictures listed before, in 4 shards",
        "images: complete, nothing to be made",
        "canny: to be made anew; the old one stays until the new one is complete",
        "hough: to be made",
        "cartoon: 1 of 4 shards to be made",
    ):
        assert line in begun
    new = said(tmp_path / "new", "--conditions", "pose", "--accept-license", "openpose", "--workers", "2")
    assert f"13 pictures would be listed from {photos}, 4 shards of 4" in new
    assert "pose: to be made" in new
    assert any(line.startswith("to be fetched: body_pose_model.pth, 209 MB") for line in new)
    assert any(line.startswith("runner: 2 processes of this machine; threads that decode and enc") for line in new)
    other = said(tmp_path / "new", "--runner", "FlinkRunner")
    assert other[-1] == "runner: FlinkRunner; threads that decode and encode: each worker's share of its cores"
    refused = CliRunner().invoke(app, ["build", str(photos), str(photos), *settings])
    assert "is not empty and not a dataset" in str(refused.exception)


def test_a_device_that_nothing_needs_is_said(dataset: Path, photos: Path) -> None:
    words = ["build", str(photos), str(dataset), "--conditions", "canny", "--device", "cuda", "--dry-run"]
    assert "none of these conditions has a network, so nothing runs there" in CliRunner().invoke(app, words).stderr
