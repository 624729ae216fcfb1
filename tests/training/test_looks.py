"""Looks in every precision, within the memory of a step, on the window that is trained on; what a look costs."""

from __future__ import annotations

import json
import time
import types
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from safetensors.torch import load_file

from controlmill.annotators.base import Network
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.torch_device import torch_dtype
from controlmill.bases.controlnet import choose_trainable, make_controlnet, zero_convolutions
from controlmill.bases.stable_diffusion import Base
from controlmill.evaluation.fidelity import Judge, make_judge
from controlmill.evaluation.keypoints import people_of, within
from controlmill.evaluation.sampling import sample_pictures, start_noise
from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.config import TrainConfig
from controlmill.training.data import reader
from controlmill.training.data.loader import held_out_samples
from controlmill.training.data.selection import LOCATION, common_shapes
from controlmill.training.looks import Looks
from controlmill.training.run.log import read_log
from controlmill.training.sample import draw
from controlmill.training.trainer import Trainer
from tests.training_runs import LOOKING, MakeConfig, TrainRun, begin

ROWS = [(0, i) for i in range(5)]


def looked(run: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(run) if "gain" in line]


def connected(base: Base) -> ControlNetModel:
    """A ControlNet whose control shows."""
    controlnet = make_controlnet(base.unet, "zero", 4, 3, 0).float()
    for convolution in zero_convolutions(controlnet):
        torch.nn.init.normal_(convolution.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return controlnet


@pytest.fixture
def trainer_of(scenes_folder: Path, tmp_path: Path) -> Callable[[TrainConfig], Trainer]:
    """Begins a run and builds its trainer."""

    def go(config: TrainConfig) -> Trainer:
        return begin(scenes_folder, tmp_path / "run", config)

    return go


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Looks]:
    """The Looks of every run that is trained."""
    made = []

    class Seen(Looks):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr("controlmill.training.trainer.Looks", Seen)
    return made


def test_a_middle_block_alone_is_looked_at_as_its_file_is_drawn(small_base: Path, tmp_path: Path) -> None:
    base = Base(str(small_base), torch.device("cpu"))
    trained = connected(base)
    choose_trainable(trained, base.unet, only_mid=True, unlock="none")
    trained.save_pretrained(tmp_path / "file")
    control, noise = np.full((1, 3, 64, 64), 0.5, np.float32), start_noise(base, ROWS[:1], 0, 64, 64)
    loaded = type(trained).from_pretrained(tmp_path / "file")
    drawn = [sample_pictures(base, which, ["a"], control, noise, 2, 2.0) for which in (trained, loaded, None)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


# precision


@pytest.mark.parametrize("changes", [{}, {"unlock": "base"}, {"ema_decay": 0.9}])
def test_a_bf16_run_is_looked_at(
    changes: dict[str, Any], train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(**LOOKING, evaluation_samples=2, precision="bf16", **changes))
    first, last = looked(tmp_path / "run")
    assert first["gain"] == 0
    assert first["fidelity"] == first["floor"]
    assert np.isfinite([last["gain"], last["fidelity"], last["ceiling"]]).all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("unlocked", [False, True])
def test_half_precision_samples_are_near_those_of_fp32(precision: str, unlocked: bool, small_base: Path) -> None:
    pictures = {}
    for dtype in ("fp32", precision):
        base = Base(str(small_base), torch.device("cpu"), dtype)
        controlnet = connected(base)
        choose_trainable(controlnet, base.unet, only_mid=False, unlock="decoder" if unlocked else "none")
        control, noise = np.full((2, 3, 64, 64), 0.5, np.float32), start_noise(base, ROWS[:2], 0, 64, 64)
        pictures[dtype] = np.stack(sample_pictures(base, controlnet, ["a", "b"], control, noise, 3, 2.0))
        assert base.unet.conv_in.weight.dtype == torch_dtype(dtype)
    off = np.abs(pictures["fp32"].astype(int) - pictures[precision])
    assert pictures["fp32"].std() > 5
    assert off.mean() < 2


def test_fp32_samples_are_those_of_the_stock_pipeline_bit_for_bit(small_base: Path) -> None:
    base = Base(str(small_base), torch.device("cpu"))
    controlnet, noise = connected(base), start_noise(base, ROWS, 0, 64, 64)
    control = np.random.default_rng(0).random((5, 3, 64, 64), np.float32)
    prompts, settings = ["a red circle"] * 5, {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "np"}
    size = {"height": 64, "width": 64}
    with torch.no_grad():
        free = base.pipeline()(prompt=prompts, latents=noise, **size, **settings).images
        picture = torch.from_numpy(control)
        led = base.pipeline(controlnet)(prompt=prompts, image=picture, latents=noise, **size, **settings).images
    for stock, arguments in ((free, (None, prompts, None)), (led, (controlnet, prompts, control))):
        ours = sample_pictures(base, *arguments, noise, 3, 2.0)
        np.testing.assert_array_equal(np.stack(ours), np.rint(stock * 255).astype(np.uint8))


# memory


def test_looks_take_no_more_at_once_than_a_step(
    trainer_of: Callable[[TrainConfig], Trainer], short_config: MakeConfig
) -> None:
    trainer = trainer_of(short_config(**{**LOOKING, "evaluation_rows": 5}, evaluation_samples=3, micro_batch_size=2))
    base, largest = trainer.base, {}
    modules = {"unet": base.unet, "encoder": base.vae.encoder, "decoder": base.vae.decoder, "text": base.text_encoder}
    for name, module in modules.items():

        def note(module: torch.nn.Module, given: Any, name: str = name) -> None:
            largest[name] = max(largest.get(name, 0), len(given[0]))

        module.register_forward_pre_hook(note)
    trainer.train()
    assert largest == {"unet": 4, "encoder": 2, "decoder": 2, "text": 2}  # guidance: each picture with and without


def test_what_is_looked_at_does_not_depend_on_how_many_go_at_once(
    seen: list[Looks], train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    for micro in (4, 1):
        train_run(tmp_path / str(micro), short_config(**LOOKING, evaluation_samples=3, micro_batch_size=micro))
    many, one = seen
    assert (many.batch, one.batch) == (4, 1)
    assert torch.equal(many.noise, one.noise)
    assert torch.equal(many.start, one.start)
    torch.testing.assert_close(many.latents, one.latents, atol=1e-5, rtol=0)
    np.testing.assert_allclose(many.base_losses, one.base_losses, rtol=1e-4)
    a, b = (np.stack(looks.floor_pictures).astype(int) for looks in seen)
    assert np.abs(a - b).max() <= 1


def test_probes_may_be_sampled_without_a_prompt(
    seen: list[Looks], train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(**LOOKING, evaluation_samples=2, evaluation_prompt=""))
    assert all(sample.caption for sample in seen[0].probes)
    assert seen[0].prompts == ["", ""]


def test_a_run_that_goes_on_may_be_looked_at_otherwise(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(**LOOKING, evaluation_samples=2))
    changes = {
        "evaluation_samples": 0,
        "evaluation_rows": 6,
        "sampling_steps": 2,
        "guidance_scale": 3.0,
        "evaluation_prompt": "a",
        "steps": 3,
    }
    Trainer(tmp_path / "run", *start.resume(tmp_path / "run", changes), resume=True).train()
    assert [line["step"] for line in looked(tmp_path / "run")] == [0, 2, 3]
    assert "fidelity" not in looked(tmp_path / "run")[-1]


def test_a_run_that_cannot_go_on_is_left_as_it_was(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(steps=1))
    before = (tmp_path / "run" / "run.json").read_text()
    for changes in (
        {"device": "cuda:99"},
        {"wandb_project": "mine", "learning_rate": 0.5},
        {"evaluation_image": ["nowhere.png"]},
    ):
        with pytest.raises(MillError):
            start.resume(tmp_path / "run", changes)
        assert (tmp_path / "run" / "run.json").read_text() == before


# the window that is trained on


def test_with_crop_looks_are_at_the_middle_of_every_picture_that_is_large_enough(
    seen: list[Looks],
    trainer_of: Callable[[TrainConfig], Trainer],
    short_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tall(decode: Callable[..., Any]) -> Callable[..., Any]:  # the dataset's pictures are all 64x64
        return lambda *given: np.concatenate([square := decode(*given[:-1], (64, 64))] * (given[-1][0] // len(square)))

    monkeypatch.setattr(reader, "decode_image", tall(reader.decode_image))
    monkeypatch.setattr(reader, "decode_map", tall(reader.decode_map))
    trainer = trainer_of(short_config(**{**LOOKING, "evaluation_rows": 99}, evaluation_samples=2, crop_size=32))
    prepared = trainer.prepared
    rows = prepared.selection.held_out
    rows["height"][0], rows["width"][1] = 128, 24  # one of another shape, one too narrow
    trainer.train()
    samples = seen[0].samples
    wide = np.delete(rows, 1)
    whole = {s.row: s for s in held_out_samples(prepared.dataset, {"canny": prepared.condition}, wide)}
    assert {s.row for s in samples} == set(whole)
    assert {s.image.shape[0] for s in whole.values()} == {64, 128}
    for sample in samples:
        found = whole[sample.row]
        top = (found.image.shape[0] - 32) // 2
        np.testing.assert_array_equal(sample.image, found.image[top : top + 32, 16:48])
        np.testing.assert_array_equal(sample.maps["canny"], found.maps["canny"][top : top + 32, 16:48])
    assert seen[0].latents.shape[2:] == (8, 8)
    assert {picture.shape for picture in seen[0].floor_pictures} == {(32, 32, 3)}


def test_keypoints_outside_the_window_are_not_asked_for() -> None:
    person = np.full((18, 2), -1.0)
    person[:3] = (20, 30), (50, 30), (47, 47)
    inside = people_of(within(person.ravel().tolist(), 16, 16, 32))[0]
    np.testing.assert_array_equal(inside[[0, 2]], [(4, 14), (31, 31)])
    assert np.isnan(inside[1]).all()
    assert np.isnan(inside[3:]).all()


# what looking costs


def test_other_processes_wait_for_a_long_look(
    trainer_of: Callable[[TrainConfig], Trainer], short_config: MakeConfig
) -> None:
    assert trainer_of(short_config()).accelerator.init_handler.timeout == timedelta(hours=2)


def test_a_picture_is_annotated_once_for_all_measures(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotation, calls = Judge.annotation, []
    monkeypatch.setattr(Judge, "annotation", lambda *given: calls.append(1) or annotation(*given))
    train_run(tmp_path / "run", short_config(**LOOKING, evaluation_samples=2))
    assert looked(tmp_path / "run")[-1].keys() >= {"fidelity", "F1_exact"}
    assert len(calls) == 8  # two pictures at the floor, at the ceiling, at the first look and at the last


class Placed(Network):
    """Remembers where it was put."""

    name = "placed"
    weights = ()

    def __init__(self, files: Mapping[str, Path], place: Placement) -> None:
        self.place = place

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        return image

    def forward(self, batch: Any) -> list[Any]:
        return list(batch)


def test_the_judge_annotates_on_the_device_of_the_run(
    short_config: MakeConfig, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = start.prepare(str(scenes_folder), short_config())
    annotator = types.SimpleNamespace(network=Placed)
    monkeypatch.setattr("controlmill.evaluation.fidelity.find_annotator", lambda *_: (annotator, {}))
    judge = make_judge(prepared.condition, prepared.provenance(), torch.device("cuda", 1))
    assert judge.network.place == Placement(device="cuda:1", dtype="fp32")


@pytest.mark.parametrize(
    ("steps", "look", "save"), [(20, 50, 50), (100, 50, 50), (1_000, 50, 100), (20_000, 1_000, 2_000)]
)
def test_a_short_trial_is_spent_on_steps(steps: int, look: int, save: int, short_config: MakeConfig) -> None:
    assert (short_config(steps=steps).evaluation_interval, short_config(steps=steps).checkpoint_interval) == (
        look,
        save,
    )
    assert short_config(steps=steps, evaluate_every=3).evaluation_interval == 3


def test_what_is_fixed_before_the_first_look_counts_as_time_of_looks(
    seen: list[Looks], train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix = Looks._fix
    monkeypatch.setattr(Looks, "_fix", lambda looks: time.sleep(0.5) or fix(looks))
    config = short_config(**{**LOOKING, "steps": 6, "evaluate_every": 1, "evaluation_budget": 0.01})
    train_run(tmp_path / "run", config)
    assert seen[0].spent > 0.5
    assert [line["step"] for line in looked(tmp_path / "run")] == [0, 6]


def test_a_run_without_time_for_looks_does_not_read_its_log_at_each_step(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr("controlmill.training.looks.read_log", lambda run: calls.append(1) or read_log(run))
    config = short_config(**{**LOOKING, "steps": 6, "evaluate_every": 1, "evaluation_budget": 1e-9})
    train_run(tmp_path / "run", config)
    assert [line["step"] for line in looked(tmp_path / "run")] == [0, 6]
    assert len(calls) == 3  # at the beginning, and for the curves of each look
    Trainer(tmp_path / "run", *start.resume(tmp_path / "run", {}), resume=True).train()
    assert [line["step"] for line in looked(tmp_path / "run")] == [0, 6]


# looks that fail, or that tell nothing


def test_a_look_that_fails_does_not_end_the_run(
    seen: list[Looks],
    train_run: TrainRun,
    short_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw_grid = Looks._draw

    def fails(looks: Looks, step: int, pictures: Any) -> None:
        if step == 1:
            raise RuntimeError("out of memory")
        draw_grid(looks, step, pictures)

    monkeypatch.setattr(Looks, "_draw", fails)
    modes = []
    monkeypatch.setattr(
        Trainer, "_one_step", lambda trainer, samples: modes.append(trainer.trained.controlnet.training) or (0.0, 0.0)
    )
    run = tmp_path / "run"
    trainer = train_run(run, short_config(**{**LOOKING, "evaluate_every": 1}, evaluation_samples=1))
    assert modes == [True, True]
    assert trainer.step == 2
    assert [line["step"] for line in looked(run)] == [0, 2]
    failed = [line for line in read_log(run) if "look_failed" in line]
    assert failed == [{"step": 1, "look_failed": "RuntimeError: out of memory"}]
    assert "step 1: the look at held-out rows failed (RuntimeError: out of memory); the run goes on" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(("error", "first"), [(RuntimeError, True), (KeyboardInterrupt, False)])
def test_the_first_look_may_fail_and_ctrl_c_is_no_failure(
    error: type[BaseException],
    first: bool,
    train_run: TrainRun,
    short_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(looks: Looks, step: int, pictures: Any) -> None:
        if first or step:
            raise error

    monkeypatch.setattr(Looks, "_draw", fails)
    with pytest.raises(error):
        train_run(tmp_path / "run", short_config(**{**LOOKING, "evaluate_every": 1}, evaluation_samples=1))


def test_fidelity_that_tells_nothing_is_said_once_and_breaks_nothing(
    train_run: TrainRun,
    short_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    monkeypatch.setattr("controlmill.training.looks.round_trip", lambda base, images, batch: [black] * len(images))
    run = tmp_path / "run"
    train_run(run, short_config(**LOOKING, evaluation_samples=2))
    assert capsys.readouterr().err.count("fidelity tells nothing here: F1 within 2 px at 512 is 0.000") == 1
    assert np.isnan([line["fraction"] for line in looked(run)]).all()
    assert json.loads((run / "convergence.json").read_text()) == {"converged": None}
    assert "NaN" not in (run / "metrics.jsonl").read_text()
    assert "| ceiling | 0.0000 |" in (run / "README.md").read_text()


# one picture for a user


def test_a_picture_is_drawn_in_the_runs_shape_that_is_nearest_to_the_photos(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_run(run, short_config(steps=1))
    said = json.loads((run / "run.json").read_text())
    assert said["shapes"] == [[64, 64]]
    (run / "run.json").write_text(json.dumps({**said, "shapes": [[64, 64], [32, 96], [96, 32]]}))
    for width, height, shape in ((70, 60, (64, 64)), (200, 70, (32, 96)), (60, 200, (96, 32))):
        Image.new("RGB", (width, height)).save(tmp_path / "given.png")
        for image, control in ((tmp_path / "given.png", None), (None, tmp_path / "given.png")):
            (picture,), drawn = draw(run, image, control, "a", 0, 1, 1, 2.0, "cpu")
            assert picture.shape == drawn.shape == (*shape, 3)


def test_shapes_are_listed_the_commonest_first() -> None:
    rows = np.zeros(6, LOCATION)
    rows["height"], rows["width"] = (64, 32, 64, 96, 32, 64), (64, 96, 64, 32, 96, 64)
    assert common_shapes(rows) == [(64, 64), (32, 96), (96, 32)]


def test_looks_measure_from_floor_to_ceiling_and_draw(finished_run: Path) -> None:
    looked = [line for line in read_log(finished_run) if "gain" in line]
    assert [line["step"] for line in looked] == [0, 1, 2]
    first = looked[0]
    assert first["gain"] == first["benefit"] == 0  # zero convolutions
    assert first["fidelity"] == first["floor"]
    assert first["held_out_loss"] == first["base_loss"]
    assert looked[2]["benefit"] != 0
    for name in ("curves.png", "probes/00000002.png"):
        assert np.asarray(Image.open(finished_run / name)).std() > 0
    assert json.loads((finished_run / "convergence.json").read_text()).keys() == {"converged"}


def test_looking_changes_no_weight(
    finished_run: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(
        tmp_path / "blind", short_config(steps=2, held_out=0.2, evaluation_rows=2, sampling_steps=1, evaluate_every=100)
    )
    a, b = (load_file(r / "diffusion_pytorch_model.safetensors") for r in (finished_run, tmp_path / "blind"))
    assert all(torch.equal(a[name], b[name]) for name in a)
