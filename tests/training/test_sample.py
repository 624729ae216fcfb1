"""The command sample: what a user gets, and what is refused before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.annotators.base import Network
from controlmill.bases.controlnet_file import to_original
from controlmill.evaluation.sampling.prompts import DEFAULT_PROMPT
from controlmill.evaluation.sampling.sampler import Sampler
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.schemas.errors import MillError
from controlmill.training.options import SampleOptions
from controlmill.training.sample import draw, draw_maps, make_request

Sample = Callable[..., np.ndarray]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    grid = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(grid.repeat(15, 0).repeat(15, 1)).save(path)
    return path


@pytest.fixture(scope="module")
def strong(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose connections are large, so that control shows."""
    run = Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("strong") / "run", symlinks=True))
    shutil.rmtree(run / "checkpoints")
    weights = load_file(run / WEIGHTS)
    for name, tensor in weights.items():
        if name.startswith(("controlnet_down_blocks", "controlnet_mid_block", "controlnet_cond_embedding.conv_out")):
            torch.nn.init.normal_(tensor, std=0.1, generator=torch.Generator().manual_seed(0))
    (run / WEIGHTS).unlink()
    save_file(weights, run / WEIGHTS)
    return run


@pytest.fixture
def sample(strong: Path, photo: Path, tmp_path: Path) -> Sample:
    """Runs the command; returns the picture of ``--out``, int (H, W, 3)."""

    def run(*words: str, controlnet: Path = strong, image: bool = True, out: str = "o.png") -> np.ndarray:
        given = ["--image", str(photo)] if image else []
        path = tmp_path / out
        arguments = [str(controlnet), *given, "--out", str(tmp_path / "o.png"), "--steps", "2", "--device", "cpu"]
        done = CliRunner().invoke(app, ["sample", *arguments, *words], catch_exceptions=False)
        assert done.exit_code == 0
        return np.asarray(Image.open(path)).astype(int)

    return run


def options(**given: object) -> SampleOptions:
    return SampleOptions(**{"image": None, "control": None, "device": "cpu", **given})  # type: ignore[arg-type]


def test_pictures_and_maps_are_files_by_kind_of_prompt(sample: Sample, tmp_path: Path) -> None:
    sample("--prompts", "none,user", "--prompt", "a red circle", "--count", "2", out="o_user_1.png")
    names = {path.name for path in tmp_path.glob("o_*.png")}
    assert names == {"o_control.png", *(f"o_{kind}_{i}.png" for kind in ("none", "user") for i in range(2))}
    assert Image.open(tmp_path / "o_user_1.png").size == Image.open(tmp_path / "o_control.png").size == (64, 64)


def test_settings_are_what_is_sampled_with(strong: Path, photo: Path) -> None:
    asked = options(
        image=photo,
        sampler="unipc",
        guidance_scale=3.0,
        guidance_weighting="resolution",
        strength=0.5,
        control_start=0.1,
        control_end=1.0,
        negative="ugly",
        added_prompt="best",
        seed=3,
    )
    settings = make_request(str(strong), asked).settings
    assert settings == SamplingSettings("unipc", 2, 3.0, "resolution", 0.1, 1.0, 0.5, "ugly", "best", 3)
    assert [settings.whole(prompt) for prompt in ("a house", "")] == ["a house, best", ""]


class Captions(Network):
    """Says how bright a picture is."""

    def __init__(self) -> None: ...

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        return image

    def forward(self, batch: Sequence[np.ndarray]) -> list[str]:
        return [f"picture {int(image.sum())}" for image in batch]


def test_an_automatic_prompt_is_said_of_the_default_prompts_picture(
    strong: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlmill.evaluation.sampling.captioner.find_weights", lambda *_: [])
    monkeypatch.setattr("controlmill.evaluation.sampling.captioner.load_network", lambda *_: Captions())
    asked = options(image=photo, prompts="default,auto", count=2, steps=1, added_prompt="best")
    request = make_request(str(strong), asked)
    found = list(draw(request, [image for image, _ in draw_maps(request, "cpu")], "cpu"))
    assert [(one.kind, one.number) for one in found] == [("default", 0), ("default", 1), ("auto", 0), ("auto", 1)]
    plain = make_request(str(strong), options(image=photo, prompts="default", count=2, steps=1, added_prompt="best"))
    first = list(draw(plain, [image for image, _ in draw_maps(plain, "cpu")], "cpu"))
    assert {one.prompt for one in first} == {f"{DEFAULT_PROMPT}, best"}
    assert [one.prompt for one in found[2:]] == [f"picture {int(one.picture.sum())}, best" for one in first]


def test_memory_that_runs_out_names_a_smaller_batch(strong: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Sampler, "sample", full)
    request = make_request(str(strong), options(image=photo, count=4))
    with pytest.raises(MillError, match="too little memory: --batch-size 2, or --precision bf16"):
        list(draw(request, [image for image, _ in draw_maps(request, "cpu")], "cpu"))


def test_two_halves_of_a_controlnet_are_one(sample: Sample, strong: Path) -> None:
    plain, half = sample(), sample("--strength", "0.5")
    added = sample("--strength", "0.5", "--add", str(strong))
    weighted = sample("--strength", "0.25", "--add", str(strong), "--add-weight", "3")
    assert np.abs(half - plain).max() > 1
    assert np.abs(added - plain).max() <= 1
    assert np.abs(weighted - plain).max() <= 1


def test_the_seed_does_not_change_the_map(sample: Sample) -> None:
    first, second = (sample("--seed", seed, out="o_control.png") for seed in ("0", "1"))
    np.testing.assert_array_equal(first, second)


def test_what_is_outside_the_mask_stays(sample: Sample, photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((90, 120), np.uint8)
    mask[30:60, 40:80] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    drawn = [sample("--mask", str(tmp_path / "mask.png"), "--seed", seed) for seed in ("0", "1")]
    differs = np.abs(drawn[0] - drawn[1]).max(axis=2) > 0
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    assert 20 <= rows.min() <= rows.max() <= 43
    assert 17 <= columns.min() <= columns.max() <= 46


def test_a_controlnet_moves_to_another_base(sample: Sample, small_base: Path, tmp_path: Path) -> None:
    base = StableDiffusionPipeline.from_pretrained(small_base)
    torch.nn.init.normal_(base.unet.conv_out.weight, generator=torch.Generator().manual_seed(1))
    base.save_pretrained(tmp_path / "other")
    assert np.abs(sample() - sample("--base", str(tmp_path / "other"))).max() > 1


def test_any_controlnet_gives_the_runs_picture(sample: Sample, strong: Path, small_base: Path, tmp_path: Path) -> None:
    expected = sample()
    weights, config = load_file(strong / WEIGHTS), ControlNetModel.load_config(strong)
    (tmp_path / "folder").mkdir()
    for name in (WEIGHTS, "config.json"):
        shutil.copy(strong / name, tmp_path / "folder")
    original = {key: tensor.contiguous() for key, tensor in to_original(weights, config).items()}
    save_file(original, tmp_path / "original.safetensors")
    save_file({key.removeprefix("control_model."): original[key] for key in original}, tmp_path / "bare.safetensors")
    save_file(weights, tmp_path / "diffusers.safetensors")
    shutil.copy(tmp_path / "o_control.png", tmp_path / "map.png")
    words = ("--base", str(small_base), "--control", str(tmp_path / "map.png"))
    for name in ("folder", "original.safetensors", "bare.safetensors", "diffusers.safetensors"):
        np.testing.assert_array_equal(sample(*words, controlnet=tmp_path / name, image=False), expected)


def test_a_picture_is_drawn_in_the_runs_shape_that_is_nearest_to_the_photos(strong: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(strong, tmp_path / "run"))
    said = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**said, "shapes": [[64, 64], [32, 96], [96, 32]]}))
    for width, height, shape in ((70, 60, (64, 64)), (200, 70, (32, 96)), (60, 200, (96, 32))):
        given = tmp_path / "given.png"
        Image.new("RGB", (width, height)).save(given)
        for asked in (options(image=given), options(control=given)):
            assert make_request(str(run), asked).shape == shape
        assert make_request(str(run), options(image=given, size=48)).shape[0 if width > height else 1] == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "give --image, a photo to annotate, or --control, a finished map"),
        ({"image": Path("never.png")}, "--image never.png: no such file"),
        ({"control": Path(__file__)}, "give only one of --image and --control"),
        ({"image": Path(__file__)}, "cannot be read as a picture"),
        ({"base": "never/here"}, "--base never/here: not found here"),
        ({"variant": ("canny=1",)}, "--variant canny=1: canny has no variant '1'"),
        ({"variant": ("hed",)}, "--variant hed=soft: no ControlNet here follows such maps"),
        ({"add": ("nowhere/",)}, "nowhere/: not found here, and the Hub could not give it"),
        ({"size": 30}, None),
        ({"mask": "black"}, "nothing in it is white"),
        ({"mask": "small"}, r"is 8x8, --image is 120x90: they must be of one size"),
    ],
)
def test_what_cannot_be_sampled_is_said_before_anything_is_loaded(
    changes: dict[str, object],
    message: str | None,
    nothing_loads: None,
    trained_once: Path,
    photo: Path,
    tmp_path: Path,
) -> None:
    for name, size in (("black", (120, 90)), ("small", (8, 8))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    given = {"image": photo, **changes}
    if "mask" in changes:
        given["mask"] = tmp_path / f"{changes['mask']}.png"
    if message is None:
        make_request(str(trained_once), options(**given))
        return
    with pytest.raises(MillError, match=message):
        make_request(str(trained_once), options(**given))


@pytest.mark.parametrize(
    ("address", "changes", "message"),
    [
        ("runs/cany", {}, "runs/cany: no such folder or file here. If it is a ControlNet on the Hub, also give --base"),
        ("runs/cany", {"image": None}, "runs/cany: no such folder or file here. If"),
        ("./cany", {}, "./cany: no such folder or file here$"),
        ("runs/cany", {"base": "tiny"}, r"runs/cany: not found here, and the Hub could not give it \("),
    ],
)
def test_a_run_that_is_not_here_is_told_before_anything_is_asked_for(
    address: str, changes: dict[str, object], message: str, nothing_loads: None, photo: Path
) -> None:
    with pytest.raises(MillError, match=message):
        make_request(address, options(**{"image": photo, **changes}))


def test_a_controlnet_of_another_base_is_refused(
    nothing_loads: None, trained_once: Path, photo: Path, tmp_path: Path
) -> None:
    with pytest.raises(MillError, match="its cross_attention_dim is 32, the base's"):
        make_request(str(trained_once), options(image=photo, base="tiny"))
    with pytest.raises(MillError, match=r"nothing of its maps: say how the photo is annotated \(--variant"):
        folder = Path(shutil.copytree(trained_once, tmp_path / "folder", symlinks=True))
        base = json.loads((folder / "_local.json").read_text())["base"]
        shutil.rmtree(folder / "checkpoints")
        (folder / "run.json").unlink()
        make_request(str(folder), options(image=photo, base=base))
    with pytest.raises(MillError, match="--base: say which base model"):
        make_request(str(folder), options(image=photo))


def test_a_file_that_is_no_controlnet_is_refused(
    nothing_loads: None, small_base: Path, photo: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    asked = options(image=photo, base=str(small_base), variant=("canny=100:200",))
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(MillError, match="not a ControlNet, neither under"):
        make_request(str(path), asked)
    save_file({"control_model.input_hint_block.0.weight": torch.zeros(16, 3, 3, 3)}, path)
    with pytest.raises(MillError, match=r"not a ControlNet for this base \(control_model\.\S+ is missing\)"):
        make_request(str(path), asked)
    path.write_bytes(b"nothing")
    with pytest.raises(MillError, match=r"cannot be read as \.safetensors"):
        make_request(str(path), asked)


def test_a_run_that_trained_its_base_stays_with_it(
    nothing_loads: None, trained_once: Path, small_base: Path, photo: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained_once, tmp_path / "run", symlinks=True))
    said = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**said, "config": {**said["config"], "unlock": "decoder"}}))
    other = Path(shutil.copytree(small_base, tmp_path / "other"))
    for asked in (options(image=photo, base=str(other)), options(image=photo, add=(str(run),))):
        with pytest.raises(MillError, match=r"trained together with its base \(--unlock decoder\)"):
            make_request(str(run if asked.base else trained_once), asked)
