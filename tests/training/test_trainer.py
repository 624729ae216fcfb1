"""Exactness: resuming, processes, micro-batches; and what is trained in each mode."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from controlmill.bases.base import Base
from controlmill.bases.controlnet import ControlledDenoiser, choose_trainable, make_controlnet
from controlmill.bases.registry import load_base
from controlmill.evaluation.rows import Sample
from controlmill.schemas.errors import MillError
from controlmill.schemas.provenance import CaptionsRecord
from controlmill.training import start
from controlmill.training.config import TrainConfig
from controlmill.training.data.loader import Loader
from controlmill.training.run import checkpoint
from controlmill.training.run.metrics import StepRecord, of_kind, read_metrics
from controlmill.training.schedules import learning_rate
from controlmill.training.trainer import Trainer
from tests.scenes import ALL_MAPS
from tests.small_base import save_small_base, small_unet
from tests.training_runs import MakeConfig, TrainRun, begin, losses, weights


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    return load_base(str(small_base), torch.device("cpu"))


# resuming


@pytest.mark.parametrize(
    ("stop", "workers", "changes"), [(3, 0, {}), (5, 2, {"ema_decay": 0.9, "warmup_steps": 4, "random_flip": True})]
)
def test_a_resumed_run_is_equal_bit_for_bit(
    stop: int,
    workers: int,
    changes: dict[str, Any],
    train_run: TrainRun,
    short_config: MakeConfig,
    scenes_folder: Path,
    tmp_path: Path,
) -> None:
    train_run(tmp_path / "whole", short_config(steps=7, **changes))
    train_run(tmp_path / "cut", short_config(steps=stop, **changes))
    config, prepared = start.resume(tmp_path / "cut", {"steps": 7, "loader_workers": workers})
    assert Trainer(tmp_path / "cut", config, prepared, resume=True).train() == 7
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    last = [tmp_path / name / "checkpoints" / "00000007" for name in ("whole", "cut")]
    for name in ("optimizer.safetensors", *(["ema/diffusion_pytorch_model.safetensors"] if changes else [])):
        assert equal(load_file(last[0] / name), load_file(last[1] / name))
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_ctrl_c_writes_a_checkpoint_and_the_run_goes_on_exactly(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "whole", short_config(steps=30))
    log = tmp_path / "cut" / "metrics.jsonl"

    def interrupt() -> None:
        while not log.exists() or len(log.read_text().splitlines()) < 5:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    done = train_run(tmp_path / "cut", short_config(steps=30)).step
    watcher.join()
    assert 5 <= done < 30
    assert checkpoint.steps_saved(tmp_path / "cut")[-1] == done
    config, prepared = start.resume(tmp_path / "cut", {})
    Trainer(tmp_path / "cut", config, prepared, resume=True).train()
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


SAID = ("condition", "base", "steps", "batch_size", "learning_rate", "held_out", "evaluation_samples", "device")


def flags_of(config: TrainConfig) -> list[str]:
    """The flags that ask for a short run's settings."""
    said = asdict(config)
    return [f"--{name.replace('_', '-')}={said[name]}" for name in SAID]


def test_ctrl_c_that_reaches_reader_processes_too_writes_a_checkpoint(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    flags = [*flags_of(short_config(steps=100_000)), "--loader-workers=2"]
    command = [sys.executable, "-m", "controlmill", "train", str(scenes_folder), str(tmp_path / "run"), *flags]
    process = subprocess.Popen(command, start_new_session=True)
    while len(losses(tmp_path / "run")) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(120) == 0
    assert checkpoint.steps_saved(tmp_path / "run") == [len(losses(tmp_path / "run"))]
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        for _ in range(300):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def test_a_run_does_not_go_on_with_another_base_or_other_captions(
    train_run: TrainRun, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    save_small_base(base)
    config = short_config(base=str(base), steps=1, unlock="decoder")
    train_run(tmp_path / "run", config)
    going = start.resume(tmp_path / "run", {"steps": 2})
    Trainer(tmp_path / "run", *going, resume=True).train()  # the decoder is another, the base is not
    unet = small_unet()
    unet.save_pretrained(base / "unet")
    with pytest.raises(MillError, match="other weights than the base"):
        Trainer(tmp_path / "run", *start.resume(tmp_path / "run", {}), resume=True)
    another = CaptionsRecord("images", "0" * 64)
    monkeypatch.setattr("controlmill.schemas.dataset.Dataset.captions", lambda dataset: another)
    with pytest.raises(MillError, match=r"has other captions\."):
        start.resume(tmp_path / "run", {}, str(scenes_folder))


def test_a_run_goes_on_without_what_it_started_from(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "first", short_config(steps=1))
    config = short_config(steps=2, start_from=str(tmp_path / "first"))
    train_run(tmp_path / "run", config)
    shutil.rmtree(tmp_path / "first")
    Trainer(tmp_path / "run", *start.resume(tmp_path / "run", {"steps": 3}), resume=True).train()
    assert checkpoint.steps_saved(tmp_path / "run")[-1] == 3


# processes and micro-batches


def test_there_are_no_more_reader_processes_than_samples_and_uneven_ones_are_said(
    short_config: MakeConfig,
    scenes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def noted(loader: Loader, first: int, reader: int, readers: int, workers: int) -> Iterator[Any]:
        asked.append(workers)
        yield from loader.batches(first, reader, readers)

    monkeypatch.setattr("controlmill.training.trainer.batches", noted)
    for batch_size, workers in ((2, 8), (6, 3)):
        run, config = tmp_path / str(workers), short_config(steps=1, batch_size=batch_size, loader_workers=workers)
        Trainer(run, config, start.begin(str(scenes_folder), run, config), resume=False).train()
    assert asked == [2, 3]
    assert "3 readers do not share the 64 lanes of the order evenly: each row group is read 3.0 times" in (
        capsys.readouterr().err
    )


def two_processes(dataset: Path, run: Path, config: TrainConfig) -> list[str]:
    """The command that trains a new run by two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "controlmill"]
    return [*launch, "train", str(dataset), str(run), *flags_of(config)]


def test_two_processes_equal_one(
    train_run: TrainRun, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    config = short_config(steps=3, batch_size=6, unlock="decoder", unlock_learning_rate=1e-4)
    train_run(tmp_path / "one", config)
    words = two_processes(scenes_folder, tmp_path / "two", config)
    subprocess.run([*words, "--unlock=decoder", "--unlock-learning-rate=1e-4"], check=True)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0, atol=1e-5)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4


def test_micro_batches_give_the_gradient_of_the_batch(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "whole", short_config(steps=3, batch_size=6))
    train_run(tmp_path / "parts", short_config(steps=3, batch_size=6, micro_batch_size=4))
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), atol=1e-5)


# what changes, and what does not


def test_before_the_first_step_the_controlnet_changes_nothing(base: Base) -> None:
    controlnet = make_controlnet(base.denoiser, "zero", 4, 3, seed=0)
    noisy, text = torch.randn(2, 4, 16, 16), torch.randn(2, 24, 32)
    t, control = torch.tensor([10, 900]), torch.rand(2, 3, 64, 64)
    denoiser = ControlledDenoiser(base.denoiser, controlnet)
    with torch.no_grad():
        assert torch.equal(denoiser(noisy, t, text, control), denoiser(noisy, t, text, None))
        gaussian = ControlledDenoiser(base.denoiser, make_controlnet(base.denoiser, "gaussian", 4, 3, seed=0))
        assert not torch.equal(gaussian(noisy, t, text, control), denoiser(noisy, t, text, None))


MODES = {
    "zero": ({}, set()),
    "only mid": ({"only_mid_control": True}, {"controlnet_down_blocks"}),
    "lite": ({"connection": "lite"}, {"time_embedding"}),
    "gaussian": ({"connection": "gaussian"}, set()),
    "decoder": ({"unlock": "decoder"}, set()),
    "base": ({"unlock": "base"}, set()),
}


DECODER = ("up_blocks", "conv_norm_out", "conv_out")
TRAINED = {"decoder": DECODER, "base": ("",)}  # of the UNet, by the beginning of names


@pytest.mark.parametrize("mode", MODES)
def test_only_what_should_be_trained_changes(
    mode: str, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    changes, frozen = MODES[mode]
    config = short_config(steps=4, max_grad_norm=0.0, **changes)
    trainer = train_run(tmp_path / "run", config)
    untouched = load_base(config.base, torch.device("cpu"))
    for name, value in trainer.base.denoiser.state_dict().items():
        moved = not torch.equal(value, untouched.denoiser.state_dict()[name])
        assert moved == name.startswith(TRAINED.get(mode, ("-",))), name
    before = make_controlnet(untouched.denoiser, config.connection, 4, 3, config.seed).state_dict()
    unused = ".to_k.bias"  # a softmax does not feel it: none here, kept for the reader of diffs
    for name, value in weights(tmp_path / "run").items():
        moved = not torch.equal(value, before[name])
        assert moved == (not name.startswith(tuple(frozen) or ("-",))) or name.endswith(unused), name


def only_mid_step(leave_out: bool) -> tuple[torch.nn.Module, float, int]:
    """(denoiser with gradients, loss, operations) of a step; without ``leave_out`` all connections are computed."""
    torch.manual_seed(0)
    unet = small_unet()
    controlnet = make_controlnet(unet, "zero", 4, 3, seed=0)
    torch.nn.init.normal_(controlnet.controlnet_mid_block.weight, std=0.1)
    choose_trainable(controlnet, unet, only_mid=leave_out, unlock="none")
    controlnet.controlnet_down_blocks.requires_grad_(False)
    denoiser = ControlledDenoiser(unet, controlnet).train()
    drawn = torch.Generator().manual_seed(1)
    noisy, text, control = (torch.randn(2, *s, generator=drawn) for s in ((4, 16, 16), (24, 32), (3, 64, 64)))
    with FlopCounterMode(display=False) as counter:
        loss = denoiser(noisy, torch.tensor([5, 900]), text, control).square().mean()
        loss.backward()
    return denoiser, loss.item(), counter.get_total_flops()


def test_only_mid_leaves_work_out_and_changes_nothing() -> None:
    (plain, plain_loss, plain_work), (denoiser, loss, work) = (only_mid_step(leave_out) for leave_out in (False, True))
    assert loss == plain_loss
    for (name, one), (_, other) in zip(denoiser.named_parameters(), plain.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-8, msg=name)
    sizes = (16, 16), (16, 16), (8, 16), (8, 32)  # side and channels of each connection
    connections = sum(2 * 2 * side**2 * channels**2 for side, channels in sizes)  # of two pictures
    # side, channels of the skip, those that share no group of a normalisation with others, and channels that come out
    skips = (8, 32, 32, 32), (8, 16, 12, 32), (16, 16, 12, 16), (16, 16, 16, 16)
    towards = sum(2 * 2 * side**2 * (3 * 3 * apart + channels) * out for side, channels, apart, out in skips)
    assert plain_work - work == 2 * connections + towards  # forward, and towards what comes in


def test_only_mid_has_no_gradient_towards_skip_connections() -> None:
    denoiser, seen = only_mid_step(leave_out=True)[0], []

    def note(block: torch.nn.Module, args: Any, given: Any) -> None:
        seen.append((given["hidden_states"].requires_grad, [s.requires_grad for s in given["res_hidden_states_tuple"]]))

    for block in denoiser.unet.up_blocks:
        block.register_forward_pre_hook(note, with_kwargs=True)
    denoiser(torch.randn(1, 4, 16, 16), torch.tensor([5]), torch.randn(1, 24, 32), torch.rand(1, 3, 64, 64))
    assert seen == [(True, [False, False])] * 2


def test_only_mid_runs_in_the_stock_pipeline_and_reconnects(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_run(tmp_path / "mid", short_config(steps=2, only_mid_control=True))
    assert not any(value.any() for name, value in weights(tmp_path / "mid").items() if "controlnet_down_blocks" in name)
    train_run(tmp_path / "all", short_config(steps=3, start_from=str(tmp_path / "mid")))
    assert all(value.any() for name, value in weights(tmp_path / "all").items() if "controlnet_down_blocks" in name)
    assert "are dropped" not in capsys.readouterr().err
    train_run(tmp_path / "again", short_config(start_from=str(tmp_path / "all"), only_mid_control=True, steps=1))
    assert "to skips are dropped, and zero again" in capsys.readouterr().err
    again = weights(tmp_path / "again")
    assert not any(value.any() for name, value in again.items() if "controlnet_down_blocks" in name)
    assert again["controlnet_mid_block.weight"].any()


def test_trainable_parameters_get_gradients_and_others_none() -> None:
    unet = small_unet()
    controlnet = make_controlnet(unet, "gaussian", 4, 3, seed=0)
    own, of_base = choose_trainable(controlnet, unet, only_mid=False, unlock="decoder")
    denoiser = ControlledDenoiser(unet, controlnet)
    inputs = torch.randn(1, 4, 16, 16), torch.tensor([5]), torch.randn(1, 24, 32), torch.rand(1, 3, 64, 64)
    denoiser(*inputs).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in own + of_base)
    rest = {id(p) for p in denoiser.parameters()} - {id(p) for p in own + of_base}
    assert rest
    assert all(p.grad is None for p in denoiser.parameters() if id(p) in rest)


@pytest.mark.parametrize("condition", ALL_MAPS)
def test_every_condition_trains(condition: str, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    mirror = condition not in ("normals", "pose")  # whose x, and whose left, are not known of imported ones
    train_run(
        tmp_path / "run",
        short_config(condition=condition, steps=3, random_flip=mirror, crop_size=32, micro_batch_size=2),
    )
    assert len(losses(tmp_path / "run")) == 3
    assert weights(tmp_path / "run")["controlnet_mid_block.weight"].any()


def test_memory_that_runs_out_is_told_with_what_to_do(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, samples: list[Sample]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Trainer, "train_step", full)
    with pytest.raises(MillError, match=r"step 0: the memory of cpu is full .* smaller --micro-batch-size \(now 4\)"):
        train_run(tmp_path / "run", short_config(steps=2))


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_used_in_products_and_convolutions_or_in_neither(
    allowed: bool, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        train_run(tmp_path / "run", short_config(steps=1, tf32=allowed))
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_a_deterministic_run_asks_all_libraries(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        train_run(tmp_path / "run", short_config(steps=1, deterministic=True))
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


def test_options_of_the_loss_and_the_optimiser(train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    config = short_config(
        min_snr_gamma=5.0,
        noise_offset=0.1,
        lr_schedule="cosine",
        warmup_steps=2,
        gradient_checkpointing=True,
        ema_decay=0.9,
    )
    train_run(tmp_path / "run", config)
    rates = [record.rate for record in of_kind(read_metrics(tmp_path / "run"), StepRecord)]
    assert rates == [pytest.approx(config.learning_rate * learning_rate(config, step)) for step in range(4)]
    assert not equal(
        weights(tmp_path / "run"), weights(tmp_path / "run/checkpoints/00000004/controlnet")
    )  # the average is offered


def test_what_is_trained_starts_unrounded_whatever_the_precision(
    short_config: MakeConfig, scenes_folder: Path, small_base: Path, tmp_path: Path
) -> None:
    config = short_config(precision="bf16", unlock="decoder")
    trainer = begin(scenes_folder, tmp_path / "run", config)
    exact = load_base(str(small_base), torch.device("cpu"))
    assert equal(trainer.trained.controlnet.state_dict(), make_controlnet(exact.denoiser, "zero", 4, 3, 0).state_dict())
    for name, value in exact.denoiser.state_dict().items():
        own = trainer.base.denoiser.state_dict()[name]
        trained = name.startswith(DECODER)
        assert torch.equal(own, value if trained else value.bfloat16())


def test_bf16_and_velocity_bases(train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    base = save_small_base(tmp_path / "velocity", "v_prediction")
    train_run(tmp_path / "run", short_config(base=str(base), precision="bf16", min_snr_gamma=5.0))
    assert np.isfinite(losses(tmp_path / "run")).all()
    assert {value.dtype for value in weights(tmp_path / "run").values()} == {torch.float32}


def test_gradient_checkpointing_changes_no_bit_of_the_first_losses(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "a", short_config(steps=3))
    train_run(tmp_path / "b", short_config(steps=3, gradient_checkpointing=True))
    np.testing.assert_allclose(losses(tmp_path / "a"), losses(tmp_path / "b"), atol=1e-6)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_rows(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(MillError, match=r"the loss is nan.*rows are in.*Begin anew with a lower --learning-rate"):
        train_run(
            tmp_path / "run", short_config(steps=50, learning_rate=1e20, max_grad_norm=0.0, checkpoint_every=1000)
        )
    config = short_config(steps=50, learning_rate=1e20, max_grad_norm=0.0, checkpoint_every=1, unlock="decoder")
    said = r"begin a new run with --start-from .*again, .* and without the trained decoder, and a lower --learning-rate"
    with pytest.raises(MillError, match=said):
        train_run(tmp_path / "again", config)
    noted = json.loads(next((tmp_path / "run").glob("nan_*.json")).read_text())
    assert len(noted["rows"]) == 4
    assert set(noted["rows"][0]) == {"shard", "row", "epoch"}


def test_fp16_gradients_that_are_never_finite_stop_the_run(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short_config(steps=99)
    trainer = begin(scenes_folder, tmp_path / "run", config)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", enabled=False)
    norms = iter([np.inf, np.nan, 1.0, np.inf, np.inf, np.inf])
    monkeypatch.setattr(trainer.accelerator, "clip_grad_norm_", lambda *given: next(norms))
    monkeypatch.setattr("controlmill.training.trainer.MOST_OVERFLOWS", 3, raising=False)
    with pytest.raises(MillError, match=r"step 5: fp16 .* last 3 steps .*--precision bf16 or --precision fp32"):
        trainer.train()


@pytest.mark.parametrize(("where", "saved"), [("reading", [3]), ("loss", [3]), ("optimiser", []), ("no number", [])])
def test_an_error_costs_no_whole_step(
    where: str,
    saved: list[int] | list[Any],
    short_config: MakeConfig,
    scenes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, config = tmp_path / "run", short_config(steps=5, checkpoint_every=100)
    trainer = begin(scenes_folder, run, config)

    def after_three_steps(do: Callable[..., Any]) -> Callable[..., Any]:
        def go(*given: Any) -> Any:
            if trainer.step == 3:
                raise RuntimeError("broken")
            return do(*given)

        return go

    if where == "reading":
        monkeypatch.setattr(trainer, "train_step", after_three_steps(trainer.train_step))
    if where == "loss":
        monkeypatch.setattr(trainer.accelerator, "backward", after_three_steps(trainer.accelerator.backward))
    if where == "optimiser":
        monkeypatch.setattr(trainer.optimizer, "step", after_three_steps(trainer.optimizer.step))
    if where == "no number":
        norm = trainer.accelerator.clip_grad_norm_
        monkeypatch.setattr(
            trainer.accelerator, "clip_grad_norm_", lambda *given: np.nan if trainer.step == 3 else norm(*given)
        )
    with pytest.raises((RuntimeError, MillError), match=r"broken|norm nan"):
        trainer.train()
    assert checkpoint.steps_saved(run) == saved


def test_steps_kept_from_an_error_are_those_of_a_whole_run(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_run(tmp_path / "whole", short_config(steps=5))

    def cut(loader: Loader, first: int, *readers: Any) -> Iterator[Any]:
        for _ in range(3):
            yield next(source := loader.batches(first, *readers[:2]))
            first += 1
            source.close()
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is gone"):
        patch.setattr("controlmill.training.trainer.batches", cut)
        train_run(tmp_path / "cut", short_config(steps=5, checkpoint_every=100))
    Trainer(tmp_path / "cut", *start.resume(tmp_path / "cut", {}), resume=True).train()
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


# checkpoints


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_a_checkpoint_that_does_not_fit_leaves_nothing_and_the_one_before(
    error: Exception, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    trainer = train_run(run, short_config(steps=2, checkpoint_every=2, keep_checkpoints=2))

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    trainer.step = 3
    with pytest.raises(MillError, match=r"00000003: .*space.*last whole one is of step 2: make room, .*--resume"):
        trainer.save_checkpoint()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000002"]
    monkeypatch.undo()
    (run / "checkpoints" / "00000001.partial").mkdir()  # of a process that was killed
    trainer.save_checkpoint()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["00000002", "00000003"]


def test_processes_end_when_the_first_cannot_write(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a checkpoint is larger, all else is not

    words = two_processes(scenes_folder, tmp_path / "run", short_config(steps=1, batch_size=2))
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, preexec_fn=small_files)
    assert ended.returncode != 0
    assert "make room" in ended.stderr
    assert "the first process could not write a checkpoint" in ended.stderr
    assert checkpoint.steps_saved(tmp_path / "run") == []


def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    whole, run, last = tmp_path / "whole", tmp_path / "run", Path("checkpoints", "00000002")
    train_run(whole, short_config(steps=2, checkpoint_every=1, keep_checkpoints=2))
    names = ("optimizer.safetensors", "state.json", "controlnet/config.json")
    for name in (*names, "controlnet/diffusion_pytorch_model.safetensors"):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run, symlinks=True)
        said = (run / last / name).read_bytes()
        (run / last / name).write_bytes(said[: len(said) // 2])
        with pytest.raises(MillError, match=rf"{last / name} is damaged.*Remove .*{last} to go on from step 1,"):
            Trainer(run, *start.resume(run, {}), resume=True)
    (run / last / name).unlink()
    with pytest.raises(MillError, match=rf"{last / name} is damaged or missing .*No such file"):
        Trainer(run, *start.resume(run, {}), resume=True)
    shutil.rmtree(run / last)
    Trainer(run, *start.resume(run, {}), resume=True).train()
    assert equal(weights(run), weights(whole))
    (run / last / "state.json").write_text("{}")
    shutil.rmtree(run / "checkpoints" / "00000001")
    with pytest.raises(MillError, match=r"state\.json is damaged .*begin anew: there is none before"):
        start.resume(run, {})


def test_other_processes_wait_for_a_long_evaluation(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    trainer = begin(scenes_folder, tmp_path / "run", short_config())
    assert trainer.accelerator.init_handler.timeout == timedelta(hours=2)
