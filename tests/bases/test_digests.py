"""A base's digests: the same however its weights are stored and loaded, and others for other weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from controlmill.bases.digests import of_file, of_tensors, weights_of
from controlmill.bases.loading import load_part, weights_files
from controlmill.bases.registry import load_base
from controlmill.schemas.errors import MillError


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_file_has_the_digests_of_the_network_that_is_loaded_from_it(part: str, small_base: Path) -> None:
    network = load_part(str(small_base), part)
    assert weights_of(str(small_base), part) == of_tensors(network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_digests_are_of_values_and_not_of_how_they_are_stored(dtype: torch.dtype, tmp_path: Path) -> None:
    values = {"a": (torch.arange(15) / 4).view(3, 5), "b": torch.zeros(4)}
    save_file(values, tmp_path / "one.safetensors")
    save_file({name: value.to(dtype) for name, value in reversed(values.items())}, tmp_path / "other.safetensors")
    assert (
        of_file(tmp_path / "one.safetensors") == of_file(tmp_path / "other.safetensors") == of_tensors(values.items())
    )


def test_names_that_libraries_have_changed_are_the_same_weights(tmp_path: Path) -> None:
    old = {"mid.query.weight": torch.ones(2, 2), "text_model.x": torch.ones(1), "position_ids": torch.arange(3)}
    save_file(old, tmp_path / "old.safetensors")
    assert set(of_file(tmp_path / "old.safetensors")) == {"mid.to_q.weight", "x"}


@pytest.mark.parametrize("kept", [4, 100, -8])
def test_a_file_that_is_cut_off_is_a_message(kept: int, small_base: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(weights_files(str(small_base), "vae")[0].read_bytes()[:kept])
    with pytest.raises(MillError, match="not a whole"):
        of_file(path)


def test_another_value_is_another_digest(small_base: Path, tmp_path: Path) -> None:
    tensors = load_file(weights_files(str(small_base), "unet")[0])
    before = of_tensors(tensors.items())
    tensors["conv_in.weight"].view(-1)[-1] += 1e-3
    save_file(tensors, tmp_path / "x.safetensors")
    assert [name for name, digest in of_file(tmp_path / "x.safetensors").items() if digest != before[name]] == [
        "conv_in.weight"
    ]


def test_a_part_in_several_files_has_the_digests_of_one_and_is_loaded_once(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(small_base, tmp_path / "base")
    shutil.rmtree(folder / "unet")
    load_part(str(small_base), "unet").save_pretrained(folder / "unet", max_shard_size="40KB")
    shutil.copy(small_base / "unet" / "config.json", folder / "unet")
    assert len(weights_files(str(folder), "unet")) > 1
    load, loaded = UNet2DConditionModel.from_pretrained.__func__, []

    def counted(kind: type, *args: Any, **kwargs: Any) -> Any:
        loaded.append(args)
        return load(kind, *args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", classmethod(counted))
    base = load_base(str(folder), torch.device("cpu"), "bf16", trainable=True)
    assert base.fingerprint() == load_base(str(small_base), torch.device("cpu")).fingerprint()
    assert len(loaded) == 2  # once from each folder


@pytest.mark.parametrize("names", [{}, {"a": "../other.safetensors"}, {"a": 3}, []])
def test_a_list_of_files_from_elsewhere(names: Any, small_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_base, tmp_path / "base")
    file = weights_files(str(folder), "vae")[0]
    file.rename(folder / "other.safetensors")
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(MillError, match="the weights of its vae cannot be read"):
        weights_of(str(folder), "vae")
