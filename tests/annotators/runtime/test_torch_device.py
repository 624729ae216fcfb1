from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from controlmill.annotators.runtime import torch_device
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.torch_device import (
    device_of_worker,
    finite,
    load_state_dict,
    no_init_weights,
    resolve_device,
    resolve_dtype,
    upload,
)
from controlmill.schemas.errors import MillError


def test_dtype_is_bf16_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, avx, expected in ((True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx, raising=False)
        assert resolve_dtype("auto", "cpu") == expected
    assert resolve_dtype("fp16", "cpu") == "fp16"
    assert resolve_dtype("auto", "mps") == "fp32"
    with pytest.raises(MillError, match="--dtype int8"):
        resolve_dtype("int8", "cpu")


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_dtype_on_cuda(monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert resolve_dtype("auto", "cuda:1") == expected


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    for wrong in ("cuda:2", "tpu"):
        with pytest.raises(MillError, match=wrong):
            resolve_device(wrong)


def test_networks_have_no_more_threads_than_processors_that_a_control_group_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = torch.get_num_threads()
    try:
        for asked, allowed, found in ((4, 2, 2), (2, 8, 2)):
            torch.set_num_threads(asked)
            monkeypatch.setattr(torch_device, "processors", lambda allowed=allowed: allowed)
            torch_device.limit_threads()
            assert torch.get_num_threads() == found
    finally:
        torch.set_num_threads(before)


def test_networks_without_initial_weights_draw_nothing_and_others_do() -> None:
    state = torch.random.get_rng_state()
    with no_init_weights():
        layers = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 8), torch.nn.Embedding(8, 8)
        torch.nn.init.trunc_normal_(tensor=layers[1].weight)
        assert torch.equal(torch.nn.BatchNorm2d(8).weight, torch.ones(8))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.nn.Linear(8, 8)
    assert not torch.equal(torch.random.get_rng_state(), state)


def test_upload_layout() -> None:
    batch = list(np.random.default_rng(0).random((2, 3, 8, 6), np.float32))
    for dtype, layout in (("fp32", torch.contiguous_format), ("bf16", torch.channels_last)):
        tensor = upload(batch, Placement(dtype=dtype))
        assert tensor.is_contiguous(memory_format=layout)
        assert np.array_equal(tensor.numpy(), batch)
    assert upload(batch, Placement(), channels_last=True).is_contiguous(memory_format=torch.channels_last)


FAULTS = """
import resource, sys
from controlmill.annotators.runtime.torch_device import keep_freed_memory
large, size = sys.argv[1] == "large", int(sys.argv[2])
keep_freed_memory(large)
for round in range(6):
    if round == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b'x' * size
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is set is glibc's")
@pytest.mark.parametrize(("which", "size", "again"), [("large", 2**26, True), ("", 2**24, True), ("", 2**26, False)])
def test_freed_memory_is_used_again(which: str, size: int, again: bool) -> None:
    words = [sys.executable, "-c", FAULTS, which, str(size)]
    faults = int(subprocess.run(words, check=True, capture_output=True).stdout)
    assert (faults < size // 2**12 // 4) == again  # 4 times its pages of 4 KiB where each array asks the system anew


def test_finite() -> None:
    assert finite(np.zeros(3)).shape == (3,)
    with pytest.raises(ValueError, match="not finite"):
        finite(np.array([0.0, np.inf]))


def test_a_pickle_of_more_than_tensors_is_refused_in_our_words(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": Path("x")}, path)
    with pytest.raises(MillError, match="could run code: it is not loaded") as found:
        load_state_dict(path)
    assert "weights_only" not in str(found.value)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("share", [0, 0.4, 0.999])
def test_weights_that_came_in_part_are_named(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)({"a": torch.zeros(20_000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MillError, match=f"{name} .* is damaged .*: fetch it again"):
        load_state_dict(path)


def test_a_file_without_names_of_tensors_holds_other_weights(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "weights.pth")
    with pytest.raises(MillError, match="holds a list and no tensors by name"):
        load_state_dict(tmp_path / "weights.pth")


def test_devices_are_dealt_out_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [device_of_worker("cuda", worker) for worker in range(4)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert device_of_worker("cuda:2", 0) == "cuda:2"
    assert device_of_worker("cpu", 5) == "cpu"
