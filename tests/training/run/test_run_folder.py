"""A run folder as a thing that is damaged, copied, published, or comes from elsewhere."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from safetensors.torch import load_file, save_file

from controlmill.schemas.errors import MillError
from controlmill.training import export, start
from controlmill.training.options import SampleOptions
from controlmill.training.run import saved
from controlmill.training.run.record import read_run
from controlmill.training.run.saved import controlnet_folder
from controlmill.training.sample import draw, draw_maps, make_request
from controlmill.training.trainer import Trainer
from tests.training_runs import MakeConfig, TrainRun, resumed

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(runs_folder: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> Path:
    """A copy of a run of two steps with a checkpoint each, an average and pictures."""
    if not (runs_folder / "run").exists():
        evaluation = {
            "held_out": 0.2,
            "evaluation_rows": 2,
            "evaluation_samples": 1,
            "sampling_steps": 1,
            "evaluate_every": 2,
            "evaluation_budget": 0.0,
        }
        train_run(runs_folder / "run", short_config(steps=2, checkpoint_every=1, ema_decay=0.9, **evaluation))
    shutil.copytree(runs_folder / "run", tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def go_on(run: Path) -> Trainer:
    return resumed(run)


def flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.unlink()  # the file in the run's own folder is the same one
    path.write_bytes(data)


# checkpoints


def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_named_before_anything_is_trained(run: Path) -> None:
    last = run / "checkpoints" / "00000002"
    files = sorted(path for path in last.rglob("*") if path.is_file())
    assert len(files) == 6
    for path in files:
        whole = path.read_bytes()
        flip(path, len(whole) // 2)
        with pytest.raises(MillError, match=rf"{path} is damaged .*Remove .*{last} to go on from step 1, the check"):
            go_on(run)
        path.write_bytes(whole)
    assert go_on(run).step == 2


def test_damaged_weights_are_neither_sampled_from_nor_exported_nor_started_from(
    run: Path, tmp_path: Path, short_config: MakeConfig, scenes_folder: Path
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "map.png")
    flip(run / "checkpoints" / "00000002" / "ema" / WEIGHTS)
    said = rf"ema/{WEIGHTS} is damaged .*sha256"
    with pytest.raises(MillError, match=said):
        make_request(str(run), SampleOptions(control=tmp_path / "map.png"))
    with pytest.raises(MillError, match=said):
        export.export_weights(Path(controlnet_folder(str(run))), tmp_path / "out.safetensors", "original", "fp32")
    with pytest.raises(MillError, match=said):
        start.begin(str(scenes_folder), tmp_path / "new", short_config(start_from=str(run)))


def test_a_weight_that_is_no_number_is_neither_saved_nor_gone_on_from(run: Path) -> None:
    trainer = go_on(run)
    path = run / "checkpoints" / "00000002" / "controlnet" / WEIGHTS
    tensors = load_file(path)
    with torch.no_grad():
        tensors["conv_in.bias"][0] = torch.nan
        trainer.trained.controlnet.conv_in.bias[0] = torch.nan
    trainer.step = 3
    with pytest.raises(MillError, match=r"step 3: the weight conv_in\.bias of controlnet has values that are no num"):
        trainer.save_checkpoint()
    assert saved.steps_saved(run) == [1, 2]
    path.unlink()
    save_file(tensors, path)
    last, state = path.parent.parent, saved.read_state(run)
    (last / "state.json").unlink()
    saved.write_state(last, dataclasses.replace(state, files=saved.digests(last)))  # as if it had been saved so
    with pytest.raises(MillError, match=rf"{path} is damaged .*conv_in\.bias has values that are no numbers.* step 1"):
        go_on(run)


def test_checkpoints_have_names_of_eight_digits(run: Path) -> None:
    for name in ("²", "٣", "00000003\n", "000000004", "x"):
        (run / "checkpoints" / name).mkdir()
        (run / "checkpoints" / name / "state.json").write_text("{}")
    assert saved.steps_saved(run) == [1, 2]


# from elsewhere


def config(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda said: said["config"].update(changes)


RECORDS = {
    "no list": (lambda said: [said], "the whole is a list, not an object"),
    "nothing": (lambda said: said.clear(), "no config; no dataset; no fingerprint"),
    "settings that are none": (lambda said: said.update(config=3), "config is 3, not an object"),
    "text for a number": (config(learning_rate="1"), 'config.learning_rate is "1", not a number'),
    "yes for a number": (config(batch_size=True), "config.batch_size is true, not a whole number"),
    "a number for a list": (config(where=1), "config.where is 1, not a list"),
    "an unknown setting": (config(speed=1), "config.speed is not known"),
    "a batch of a billion": (config(batch_size=10**9), "--batch-size"),
    "a step of many digits": (config(steps=10**400), "--steps"),
    "no number": (config(learning_rate=float("nan")), "--learning-rate nan: must be a finite number"),
    "another connection": (config(connection="x"), 'config.connection is "x", not '),
    "shapes of text": (lambda said: said.update(shapes=["ab"]), 'shapes.0 is "ab", not a list'),
    "a base of ten thousand letters": (config(base="x" * 10_000, batch_size=0), "--batch-size"),
    "no version": (lambda said: said["provenance"]["annotator"].pop("version"), "no version in provenance.annotator"),
    "no shapes": (lambda said: said.update(shapes=[]), "shapes"),
    "fewer rows than none": (lambda said: said.update(rows=-1), "rows is -1, not at least 0"),
    "no annotator": (lambda said: said["provenance"].pop("annotator"), "no annotator in provenance"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_run_of_another_shape_is_one_line_with_the_files_name(case: str, run: Path) -> None:
    change, said = RECORDS[case]
    path = run / "run.json"
    values = json.loads(path.read_text())
    other = change(values)
    path.write_text(json.dumps(other if isinstance(other, list) else values))
    with pytest.raises(MillError, match=said) as found:
        start.resume(run, {})
    assert str(found.value).startswith(f"{path} is damaged, or of another version")
    assert "\n" not in str(found.value)


STATES = {
    "no object": ("[]", "the whole is a list, not an object"),
    "empty": ("{}", "no state"),
    "deep": ("[" * 100_000, "recursion limit"),
    "text for a step": ('{"state": {"step": "2"}, "sha256": ""}', 'state.step is "2", not a whole number'),
    "no text": ("\udcff", "Invalid JSON"),
}


@pytest.mark.parametrize("case", STATES)
def test_files_that_are_no_json_of_a_run(case: str, run: Path) -> None:
    text, said = STATES[case]
    for path in (run / "checkpoints" / "00000002" / "state.json", run / "_local.json", run / "run.json"):
        before = path.read_bytes()
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(MillError, match=said if path.name == "state.json" else "damaged") as found:
            start.resume(run, {})
        assert str(found.value).startswith(f"{path} is damaged")
        assert "\n" not in str(found.value)
        path.write_bytes(before)


# copied, published


def test_a_run_folder_is_a_controlnets_folder_also_where_it_was_copied(run: Path, tmp_path: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert (run / WEIGHTS).stat().st_mode & 0o777 == 0o666 & ~umask
    shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "checkpoints")  # what nobody uploads
    loaded = ControlNetModel.from_pretrained(tmp_path / "copy").state_dict()
    average = load_file(run / "checkpoints" / "00000002" / "ema" / WEIGHTS)
    assert loaded.keys() == average.keys()
    assert all(torch.equal(loaded[name], average[name]) for name in average)
    assert controlnet_folder(str(tmp_path / "copy")) == str(tmp_path / "copy")
    Image.new("RGB", (64, 64)).save(tmp_path / "map.png")
    drawn = []
    for folder in (run, tmp_path / "copy"):
        request = make_request(str(folder), SampleOptions(control=tmp_path / "map.png", prompt="a", steps=1))
        images = [image for image, _ in draw_maps(request, "cpu")]
        drawn += [sampled.picture for sampled in draw(request, images, "cpu")]
    assert (drawn[0] == drawn[1]).all()


def test_a_run_without_its_last_checkpoint_offers_the_one_before(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "00000002")
    go_on(run)
    assert (run / WEIGHTS).samefile(run / "checkpoints" / "00000001" / "ema" / WEIGHTS)
    assert not list(run.rglob("*~"))


def test_nothing_that_is_published_holds_a_path_of_this_machine(
    train_run: TrainRun, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    train_run(tmp_path / "first", short_config(steps=1))
    changes = {"start_from": str(tmp_path / "first"), "unlock": "decoder", "weights": str(tmp_path), "held_out": 0.2}
    config = short_config(steps=1, evaluation_rows=2, **changes)
    run = tmp_path / "run"
    train_run(run, config)
    ignored = (run / ".gitignore").read_text().split()
    assert "_local.json" in ignored
    published = [path for path in run.rglob("*") if path.is_file() and path.name not in ignored]
    folders = [str(Path(folder).parent).encode() for folder in (config.base, scenes_folder, tmp_path / "first")]
    assert [path for path in published for folder in folders if folder in path.read_bytes()] == []
    record = read_run(run)
    assert record.config == dataclasses.replace(config, segments="0..0")
    assert record.dataset == str(scenes_folder)
    (run / "_local.json").unlink()  # as it comes from the Hub: the same base, elsewhere
    assert read_run(run).config.base == "small"
    assert start.resume(run, {"base": config.base}, str(scenes_folder))[0].base == config.base
