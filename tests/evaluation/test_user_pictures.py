"""A user's own pictures in the grids of samples, and what annotates them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlmill.annotators.hed import SoftHED
from controlmill.evaluation.fidelity import find_annotator, make_fidelity_metric, stored_columns
from controlmill.evaluation.user_pictures import fitted, given_map, nearest_shape, user_samples
from controlmill.schemas.annotator_records import AnnotatorRecord, NetworkRecord, WeightsRecord
from controlmill.schemas.conditions import CONDITIONS, Condition
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import made_of
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pixels import load_picture
from controlmill.schemas.maps.label_files import named_set
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.stored import stored_condition
from controlmill.training import start
from controlmill.training.options import SampleOptions
from controlmill.training.run.metrics import evaluations
from controlmill.training.sample import make_request
from recipes.demo import png_header
from tests.helpers import scene
from tests.schemas.images.encodings import encoded
from tests.training_runs import EVALUATED, MakeConfig, TrainRun


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[30:60, 40:80] = 200, 50, 50
    Image.fromarray(picture).save(path)
    return path


def provenance_of(condition: str, short_config: MakeConfig, scenes_folder: Path) -> tuple[Condition, Provenance]:
    prepared = start.prepare(str(scenes_folder), short_config(condition=condition))
    return prepared.condition, prepared.provenance()


def test_own_pictures_are_fitted_and_annotated_as_the_table_was(
    photo: Path, short_config: MakeConfig, scenes_folder: Path
) -> None:
    condition, provenance = provenance_of("cartoon", short_config, scenes_folder)
    metric = make_fidelity_metric(condition, provenance)
    (sample,) = user_samples([str(photo)], condition, metric, (64, 64), 0)
    assert sample.image.shape == (64, 64, 3)
    np.testing.assert_array_equal(sample.maps["cartoon"], metric.map_of(sample.image, {}))
    assert sample.maps["cartoon"].std() > 0


def test_a_given_map_is_read_as_imports_are(tmp_path: Path) -> None:
    """A mask of 0 and 1, lines of black ink, and labels in the colours of their set or the numbers of the table's."""
    lines = np.zeros((64, 64), np.uint8)
    lines[20, 8:40] = 1
    ink = np.dstack([lines * 0, lines * 255])
    for number, array in enumerate((lines, ink)):
        Image.fromarray(array).save(tmp_path / f"{number}.png")
        found = given_map(tmp_path / f"{number}.png", CONDITIONS["canny"], (64, 64))
        np.testing.assert_array_equal(found, lines * 255)
    np.save(tmp_path / "metres.npy", np.linspace(1, 4, 64 * 96).reshape(64, 96))
    assert nearest_shape(tmp_path / "metres.npy", [(64, 64), (64, 96), (96, 64)]) == (64, 96)
    reading = {"depth": {"meaning": "metric", "scale": 1.0, "invalid": []}}
    depth = {
        "table": "depth",
        "kind": "gray16",
        "annotator": {"condition": "depth", "variant": "imported", "version": 1, "reading": reading},
    }
    found = given_map(tmp_path / "metres.npy", stored_condition(made_of(Provenance, depth)), (96, 64))
    assert found[0, 0] == 65535
    assert found[-1, -1] == 1
    annotator: dict[str, Any] = {"condition": "segmentation", "variant": "upernet", "version": 1}
    said = {"table": "segmentation", "kind": "labels", "annotator": annotator}
    Image.new("RGB", (64, 64), (120, 120, 120)).save(tmp_path / "wall.png")
    assert not given_map(tmp_path / "wall.png", stored_condition(made_of(Provenance, said)), (64, 64)).any()
    said["annotator"] = {
        **annotator,
        "variant": "imported",
        "reading": {"label_set": named_set("ade20k-150").provenance()},
    }
    Image.fromarray(lines).save(tmp_path / "wall.png")
    found = given_map(tmp_path / "wall.png", stored_condition(made_of(Provenance, said)), (64, 64))
    np.testing.assert_array_equal(found, np.where(lines, 0, 255))


def test_own_pictures_are_in_the_grids_and_in_no_metric(
    photo: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(
        tmp_path / "with", short_config(**EVALUATED, evaluation_samples=2, evaluation_image=[str(photo), str(photo)])
    )
    train_run(tmp_path / "without", short_config(**EVALUATED, evaluation_samples=2))
    wide, narrow = (Image.open(tmp_path / name / "samples/00000002.png") for name in ("with", "without"))
    assert wide.size[0] - narrow.size[0] == narrow.size[0] - 84  # four columns, not two, beside the labels
    a, b = (evaluations(tmp_path / name) for name in ("with", "without"))
    assert [record.fidelity.value for record in a if record.fidelity] == pytest.approx(
        [record.fidelity.value for record in b if record.fidelity], abs=1e-3
    )
    assert len(a) == 2


def test_own_pictures_alone_are_drawn_without_held_out_ones(
    photo: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(
        tmp_path / "run",
        short_config(
            **EVALUATED, evaluation_samples=0, evaluation_image=[str(photo)], evaluation_prompt="a red circle"
        ),
    )
    assert (tmp_path / "run" / "samples" / "00000002.png").is_file()


def test_where_the_table_is_imported_the_file_is_the_map(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    ids = np.repeat(np.arange(4, dtype=np.uint8), 16)[None].repeat(64, axis=0)
    Image.fromarray(ids).save(tmp_path / "ids.png")
    condition, provenance = provenance_of("segmentation", short_config, scenes_folder)
    (sample,) = user_samples(
        [str(tmp_path / "ids.png")], condition, make_fidelity_metric(condition, provenance), (64, 64), 0
    )
    np.testing.assert_array_equal(sample.maps["segmentation"], ids)
    assert sample.image.shape == (64, 64, 3)


def test_bad_own_pictures_are_found_before_weights_are_loaded(
    photo: Path, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffusers.ModelMixin.from_pretrained", None)

    def refused(said: str, **changes: Any) -> None:
        with pytest.raises(MillError, match=said):
            start.begin(str(scenes_folder), tmp_path / "run", short_config(**{"held_out": 0.2, **changes}))
        assert not (tmp_path / "run").exists()

    refused("cannot be read as a picture", evaluation_image=[str(tmp_path / "nowhere.png")])
    (tmp_path / "text.png").write_text("no picture")
    refused("cannot be read as a picture", evaluation_image=[str(photo), str(tmp_path / "text.png")])
    refused("is not of the label set ade20k-150", condition="segmentation", evaluation_image=[str(photo)])
    refused("--held-out above 0", evaluation_image=[str(photo)], held_out=0.0)
    monkeypatch.setattr("controlmill.evaluation.user_pictures.find_annotator", lambda *_: "the weights are not here")
    refused("cannot be annotated: the weights are not here", evaluation_image=[str(photo)])


def test_weights_are_looked_for_in_the_users_folder(tmp_path: Path) -> None:
    (file,) = SoftHED.network.weights
    (tmp_path / file.name).write_bytes(b"weights of the user's own")
    digest = hashlib.sha256(b"weights of the user's own").hexdigest()
    network = NetworkRecord("hed", 1, (WeightsRecord(file.name, "the user", digest, "any"),))
    made = Provenance("hed", "gray8", annotator=AnnotatorRecord("hed", "soft", SoftHED.version, network=network))
    assert "not here" in find_annotator(CONDITIONS["hed"], made)
    assert find_annotator(CONDITIONS["hed"], made, str(tmp_path)) == (
        SoftHED(),
        {file.name: tmp_path / file.name},
    )


def test_the_folder_of_weights_reaches_samples_fidelity_and_sample(
    photo: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("controlmill.evaluation.user_pictures.find_annotator", lambda *given: asked.append(given[2]))
    monkeypatch.setattr(
        "controlmill.training.evaluations.make_fidelity_metric", lambda *given: asked.append(given[3]) or "away"
    )
    monkeypatch.setattr(
        "controlmill.training.sample_maps.find_annotator", lambda *given: asked.append(given[2]) or "away"
    )
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    run = tmp_path / "run"
    train_run(
        run,
        short_config(
            steps=1,
            held_out=0.2,
            evaluation_image=[str(photo)],
            evaluation_samples=1,
            sampling_steps=1,
            weights=str(first),
        ),
    )
    for weights in (None, second):
        with pytest.raises(MillError, match="cannot be annotated"):
            make_request(str(run), SampleOptions(image=photo, weights=weights))
    assert asked == [str(folder) for folder in (first, first, first, second)]
    config, _ = start.resume(run, {"weights": str(second)})
    assert config.weights == str(second)


def test_a_run_from_before_there_was_the_setting_goes_on(
    photo: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(steps=1))
    path = tmp_path / "run" / "run.json"
    said = json.loads(path.read_text())
    del said["config"]["weights"]
    path.write_text(json.dumps(said))
    assert make_request(str(tmp_path / "run"), SampleOptions(image=photo)).shape == (64, 64)
    config, _ = start.resume(tmp_path / "run", {})
    assert config.weights == ""


def test_columns_that_were_stored(short_config: MakeConfig, scenes_folder: Path) -> None:
    assert stored_columns(*provenance_of("canny", short_config, scenes_folder)) == ("low", "high")
    assert stored_columns(
        CONDITIONS["hough"], Provenance("hough", "binary", annotator=AnnotatorRecord("hough", "mlsd", 1))
    ) == ("n_lines",)
    assert stored_columns(*provenance_of("segmentation", short_config, scenes_folder)) == ()


def hostile_photos() -> Iterator[tuple[str, bytes]]:
    values = np.asarray(scene(2, 96, 80))
    garbage = np.random.default_rng(1).integers(0, 256, values.shape, dtype=np.uint8)
    alpha = np.zeros(values.shape[:2], np.uint8)
    alpha[20:60, 20:60] = 255
    clear = np.where(alpha[..., None] == 255, values, garbage)
    yield "16 bits", encoded(Image.fromarray(np.asarray(scene(2, 96, 80).convert("L")).astype(np.uint16) * 257))
    yield "alpha", encoded(Image.fromarray(np.dstack([clear, alpha])))
    yield "exact", encoded(scene(2, 64, 64))
    yield "large", encoded(scene(2, 900, 700), "JPEG")


@pytest.mark.parametrize(("name", "data"), list(hostile_photos()))
def test_a_users_own_photo_has_the_pixels_of_ingest(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(data)
    wanted = decode_image(load_picture(data, Limits(min_side=1), 64, "crop").data)
    assert np.array_equal(fitted(tmp_path / "photo", (64, 64)), wanted)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encoded(scene(0)).replace(b"IDAT", b"\0DAT"), "truncated"),
        (png_header(30_000, 30_000), "too_many_pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not_an_image"),
        (b"", "not_an_image"),
    ],
)
def test_a_users_own_file_that_is_no_picture_is_one_line(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(data)
    for use in (lambda path: fitted(path, (64, 64)), lambda path: nearest_shape(path, [(64, 64)])):
        with pytest.raises(MillError, match=rf"photo cannot be read as a picture: {said}"):
            use(tmp_path / "photo")
