"""Where weights are looked for, what is pinned, and what is said of those that are missing."""

from __future__ import annotations

import errno
import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest

from controlmill.annotators.runtime import hub, weights
from controlmill.annotators.runtime.transformers_model import model_files
from controlmill.annotators.runtime.weights import PackageWeights, WeightsFile
from controlmill.schemas.errors import MillError


def test_files_of_a_repository_lie_in_their_folder(tmp_path: Path) -> None:
    config, model = model_files("someone/some-model", "0" * 40, "MIT", ("model.safetensors", 3.0), model="1" * 64)
    assert (config.name, config.hub_name) == ("some-model/config.json", "config.json")
    assert (model.name, model.hub_name) == ("some-model/model.safetensors", "model.safetensors")
    (tmp_path / "some-model").mkdir()
    (tmp_path / config.name).write_text("{}")
    found, missing = weights.find([config, model], str(tmp_path), download=False)
    assert missing == [model]
    assert found[0].sha256 == hashlib.sha256(b"{}").hexdigest()
    # nothing ties the user's own file to that repository
    assert (found[0].origin, found[0].licence) == ("custom, sum not pinned", "unknown")


def found_at(path: Path, data: bytes) -> weights.Found:
    """As the machine where a job is started found it."""
    return weights.Found("a/w.pth", str(path), hashlib.sha256(data).hexdigest(), "custom", "unknown")


def test_a_worker_has_the_same_file_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the path, in its machine's folder, in a package, in the hub's cache."""
    places = {name: tmp_path / name / "a/w.pth" for name in ("console", "folder", "package", "cache")}
    found = found_at(places["console"], b"weights")
    package = PackageWeights("some-package", "1", "w.pth", found.sha256, "MIT", "")
    ours = WeightsFile("a/w.pth", "someone/a", "0" * 40, found.sha256, 1.0, "MIT")
    packed = WeightsFile("a/w.pth", "someone/a", "0" * 40, "1" * 64, 1.0, "MIT", package=package)
    monkeypatch.setenv("CONTROLMILL_WEIGHTS", str(tmp_path / "folder"))
    monkeypatch.setattr(hub, "cached", lambda *_: places["cache"])
    monkeypatch.setattr(weights, "_in_package", lambda _: places["package"])
    for name, file in (("cache", ours), ("package", packed), ("folder", ours), ("console", ours)):
        places[name].parent.mkdir(parents=True)
        places[name].write_bytes(b"weights")
        assert weights.on_this_machine(file, found) == places[name]
    places["folder"].write_bytes(b"another version")  # is passed over
    places["console"].unlink()
    assert weights.on_this_machine(ours, found) == places["cache"]
    places["console"].write_bytes(b"another version")  # somebody changed it, which is to be said
    with pytest.raises(MillError, match=f"console/a/w.pth on {socket.gethostname()} are not those that the job was"):
        weights.on_this_machine(ours, found)


def test_weights_that_a_machine_lacks_are_said_with_all_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_at(tmp_path / "console/w.pth", b"weights")
    monkeypatch.setattr(hub, "cached", lambda *_: None)
    monkeypatch.setenv("CONTROLMILL_WEIGHTS", str(tmp_path / "folder"))
    pinned = WeightsFile("a/w.pth", "someone/a", "0" * 40, found.sha256, 1.0, "MIT")
    trained_at_home = WeightsFile("a/w.pth", "someone/a", "0" * 40, "1" * 64, 1.0, "MIT")
    for file, asked in ((pinned, ", a/w.pth of someone/a on the Hub (HF_HUB_OFFLINE is set)"), (trained_at_home, "")):
        with pytest.raises(MillError) as raised:
            weights.on_this_machine(file, found)
        assert f"(sha256 {found.sha256}) are not on {socket.gethostname()}; looked for " in str(raised.value)
        assert f"{found.path}, {tmp_path}/folder/a/w.pth{asked}. Bring the file to every worker" in str(raised.value)


def test_a_variable_names_the_folder_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    monkeypatch.setenv("CONTROLMILL_WEIGHTS", str(tmp_path))
    (found,), _ = weights.find([WeightsFile("w.pth", "someone/a", "0" * 40, None, 1.0, "MIT")], None, download=False)
    assert found.path == str(tmp_path / "w.pth")
    monkeypatch.setenv("CONTROLMILL_WEIGHTS", "/gone")
    with pytest.raises(MillError, match="CONTROLMILL_WEIGHTS is /gone: no such folder"):
        weights.find([WeightsFile("w.pth", "someone/a", "0" * 40, None, 1.0, "MIT")], None, download=False)


def test_an_unpinned_file_of_the_cache_is_the_repositorys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(tmp_path / "w.pth"))
    (found,), _ = weights.find([WeightsFile("w.pth", "someone/a", "0" * 40, None, 1.0, "MIT")], None, download=False)
    assert (found.origin, found.licence) == (f"someone/a@{'0' * 40}, sum not pinned", "MIT")


def test_a_file_of_the_users_folder_may_be_another_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "huggingface"
    folder.mkdir()
    (folder / "w.pth").write_bytes(b"trained at home")
    file = WeightsFile("w.pth", "someone/a", "0" * 40, "1" * 64, 1.0, "MIT")
    (found,), _ = weights.find([file], str(folder), download=False)
    assert (found.origin, found.licence) == ("custom", "unknown")


def test_a_file_of_the_cache_or_a_package_must_be_the_pinned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pth").write_bytes(b"cut off")
    package = PackageWeights("some-package", "1", "data/other-name.pth", "2" * 64, "MIT", "")
    file = WeightsFile("w.pth", "someone/a", "0" * 40, "1" * 64, 1.0, "MIT", package=package)
    for owner, place in ((hub, "cached"), (weights, "_in_package")):
        with monkeypatch.context() as patched:
            patched.setattr(hub, "cached", lambda *_: None)
            patched.setattr(owner, place, lambda *_: tmp_path / "w.pth")
            with pytest.raises(MillError, match="is damaged"):
                weights.find([file], None, download=False)


def test_missing_weights_say_what_the_hub_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("429 Too Many Requests")

    monkeypatch.setattr("controlmill.annotators.runtime.hub.answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    file = WeightsFile("w.pth", "someone/a", "0" * 40, "1" * 64, 1.0, "MIT")
    found, missing = weights.find([file], None)
    assert (found, missing) == ([], [file])
    assert "the Hub: ValueError: 429 Too Many Requests" in weights.missing_message([("depth", missing[0])], None)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_missing_file(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr("controlmill.annotators.runtime.hub.answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(OSError, match="no room"):
        weights.find([WeightsFile("w.pth", "someone/a", "0" * 40, "1" * 64, 1.0, "MIT")], None)


def test_the_cache_is_asked_for_the_name_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: asked.append((args, kwargs)))
    file = WeightsFile("a/model.safetensors", "someone/a", "0" * 40, None, 1.0, "MIT", remote="model.safetensors")
    weights.find([file], None, download=False)
    assert asked == [(("someone/a", "model.safetensors"), {"revision": "0" * 40})]


def test_missing_weights_say_where_they_go() -> None:
    file = WeightsFile("a/model.safetensors", "someone/a", "0" * 40, None, 1.0, "MIT", remote="model.safetensors")
    message = weights.missing_message([("depth", file)], "folder")
    assert "model.safetensors of someone/a at revision 000" in message
    assert "FOLDER/a/model.safetensors" in message


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import SegformerConfig

    from controlmill.annotators.runtime.placement import Placement
    from controlmill.annotators.segmentation import SegFormer

    folder = tmp_path / "segformer-b0-finetuned-ade-512-512"
    SegformerConfig(num_labels=150).save_pretrained(folder)
    save_file({"nothing": torch.zeros(1)}, folder / "model.safetensors")
    files = {file.name: tmp_path / file.name for file in SegFormer.weights}
    with pytest.raises(MillError, match="does not fit SegformerForSemanticSegmentation"):
        SegFormer(files, Placement())


def test_a_file_that_is_not_on_the_hub_is_fetched_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not asked, and the message says where the file is."""
    monkeypatch.setattr(hub, "cached", lambda *_: pytest.fail("the hub's cache was asked"))
    monkeypatch.setattr(hub, "file_of", lambda *_: pytest.fail("the hub was asked"))
    file = WeightsFile("w.pth", "someone/a", "v1", "1" * 64, 1.0, "MIT", url="https://example.org/w.pth")
    found, missing = weights.find([file], str(tmp_path))
    assert found == []
    assert "from a folder: fetch https://example.org/w.pth as FOLDER/w.pth" in weights.missing_message(
        [("features", missing[0])], None
    )
