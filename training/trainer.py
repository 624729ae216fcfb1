"""The training loop.

Reads from the tables, encodes, predicts, steps; evaluates on held-out rows now and then; writes checkpoints. accelerate
prepares the model and the optimiser only: order, draws and learning rate are functions of the step, so that a run which
was killed goes on bit for bit, and two processes see what one would.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from diffusers import ControlNetModel

from controlmill.annotators.runtime.torch_device import allow_tf32
from controlmill.bases.registry import load_base
from controlmill.evaluation.rows import Sample
from controlmill.schemas.errors import MillError, error_text

from .config import TrainConfig
from .data.ahead import ahead
from .data.processes import batches
from .evaluations import begin_evaluations
from .run import card, checkpoint
from .run.log import RunLog
from .run.prepare import Prepared
from .run.record import published
from .run.saved import check, steps_saved
from .schedules import ema_decay, learning_rate
from .step import Drawn, draw, encode, sample_losses, upload

LONGEST_EVALUATION = timedelta(hours=2)
MOST_OVERFLOWS = 30  # in a row: the scaler has halved its 65,536 as often, so that it is not the scale's fault


class Trainer:
    """One run: what was prepared, the networks, and the loop over them."""

    def __init__(self, run: Path, config: TrainConfig, prepared: Prepared, resume: bool):
        self.run, self.config, self.prepared = run, config, prepared
        precision = {"fp32": "no"}.get(config.precision, config.precision)
        waits = InitProcessGroupKwargs(timeout=LONGEST_EVALUATION)  # the other processes, while the first one evaluates
        self.accelerator = Accelerator(mixed_precision=precision, cpu=config.device == "cpu", kwargs_handlers=[waits])
        self.share = config.share(self.accelerator.num_processes)
        allow_tf32(config.tf32)
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
        saved = check(run) if resume else None
        self.base = load_base(config.base, self.accelerator.device, config.precision, trainable=True)
        self.fingerprint = self.base.fingerprint()  # before it is trained
        if saved and saved.base != self.fingerprint:
            raise MillError(
                f"{run} was trained on other weights than the base {config.base} has now. Put the old ones back, or "
                "begin a new run (--start-from takes this one's weights)"
            )
        self.empty = self.base.encode_prompts([""]) if prepared.caches.text else None
        self.note = ""  # what is to be said when the run begins
        controlnet = self._controlnet(resume)
        own, of_base = self.base.choose_trainable(controlnet, config.only_mid_control, config.unlock)
        groups = [{"params": own, "full": config.learning_rate}]
        groups += [{"params": of_base, "full": config.unlock_learning_rate}] if of_base else []
        optimizer = _optimizer(config, groups)
        if config.gradient_checkpointing:
            controlnet.enable_gradient_checkpointing()
            self.base.denoiser.enable_gradient_checkpointing()
        # one mode for all steps, however the networks came: it chooses memory layouts, and so last bits
        denoiser = self.base.controlled(controlnet.to(self.base.device)).train()
        for module in denoiser.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # a base may have some; it would draw from a state that no checkpoint has
        self.trained = checkpoint.Trained(
            controlnet,
            self.base.denoiser if of_base else None,
            optimizer,
            _average_of(controlnet) if config.ema_decay else None,
            self.accelerator.scaler,
        )
        self.step = checkpoint.restore(run, self.trained).step if resume else 0
        if resume and self.accelerator.is_main_process:
            checkpoint.offer(run)
        self.saved = self.step  # the step of the last checkpoint, also of one that could not be written
        self.whole = True  # what is trained is that of a whole step, and a good one
        self.overflows = 0  # fp16: steps in a row that were skipped
        prepared_model = self.accelerator.prepare(denoiser, optimizer)
        self.denoiser, self.optimizer = prepared_model
        if config.compile:
            self.denoiser = torch.compile(self.denoiser)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.asked = False  # this process was told to stop
        self._stop = False  # all processes know of it

    def _controlnet(self, resume: bool) -> ControlNetModel:
        config = self.config
        if resume:
            return checkpoint.blank_controlnet(self.run, self.base.controlnet_class(config.connection))
        if config.start_from:
            started: ControlNetModel = self.base.load_controlnet(self.prepared.start_folder)
            if config.only_mid_control and self.base.uses_skips(started):
                self.note = (
                    f"--only-mid-control: the connections of {config.start_from} to skips are dropped, and zero again"
                )
            return started
        made: ControlNetModel = self.base.make_controlnet(config.connection, config.seed)
        return made

    def train(self) -> int:
        """Train to the last step, or until asked to stop; returns the steps done."""
        config, main = self.config, self.accelerator.is_main_process
        log = (
            RunLog(self.run, self.step, config.steps, config.wandb_project, asdict(published(config))) if main else None
        )
        with contextlib.closing(log) if log else contextlib.nullcontext():
            self._train(log)
        return self.step

    def _train(self, log: RunLog | None) -> None:
        config, micro = self.config, self.config.micro_batch_size or self.share
        evaluations = begin_evaluations(self.base, self.prepared, config, self.run, log, micro) if log else None
        loader, processes = self.prepared.loader(config), self.accelerator.num_processes
        workers = min(config.loader_workers, self.share)  # more would have nothing to read
        if log:
            for note in [*([self.note] if self.note else []), *loader.notes(processes * max(1, workers))]:
                log.say(note)
        read = batches(loader, self.step, self.accelerator.process_index, processes, workers)
        source = ahead(read, self.prepare)
        with _asked_to_stop(self), contextlib.closing(source), self._keeping_steps(log):
            if evaluations:
                evaluations.evaluate_if_due(self.step, self.trained, first=True, last=self.step >= config.steps)
            while self.step < config.steps and not self._stop:
                started = time.monotonic()
                loss, norm = self.train_step(next(source))
                self.step += 1
                if log:
                    log.step(self.step, loss, norm, self.optimizer.param_groups[0]["lr"], time.monotonic() - started)
                if self.step % config.checkpoint_interval == 0 or self.step == config.steps or self._stop:
                    self.save_checkpoint()
                if evaluations:
                    evaluations.evaluate_if_due(self.step, self.trained, last=self.step == config.steps)

    def prepare(self, samples: list[Sample]) -> list[Drawn]:
        """This process's share of a batch as micro-batches on the device; safe in a thread beside a step."""
        micro = self.config.micro_batch_size or self.share
        parts = [samples[first : first + micro] for first in range(0, len(samples), micro)]
        condition, device = self.prepared.condition, self.base.device
        return [upload(draw(self.base, part, condition, self.config), device) for part in parts]

    def train_step(self, batch: list[Drawn]) -> tuple[float, float]:
        """One optimiser step over this process's share of a batch; (mean loss of the whole batch, gradient norm)."""
        config = self.config
        part = learning_rate(config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["full"] * part
        losses = []
        for drawn in batch:
            inputs = encode(self.base, drawn, self.empty)
            with (
                contextlib.nullcontext() if drawn is batch[-1] else self.accelerator.no_sync(self.denoiser),
                self.accelerator.autocast(),
            ):
                loss = sample_losses(self.base, self.denoiser, inputs, config).sum() / self.share
            self.accelerator.backward(loss)
            losses.append(loss.detach())
        heard = torch.stack([sum(losses, torch.zeros((), device=self.base.device)), loss.new_tensor(float(self.asked))])
        mean, stopped = self.accelerator.reduce(heard, "mean").tolist()
        self._stop = stopped > 0
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm or math.inf))
        scaled = self.accelerator.scaler is not None  # fp16: gradients may overflow, the scaler then skips the step
        self.overflows = 0 if math.isfinite(norm) else self.overflows + 1
        self.whole = False
        if not math.isfinite(mean) or self.overflows >= (MOST_OVERFLOWS if scaled else 1):
            self._fail(batch, mean, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.trained.average is not None:
            _move_average(self.trained.average, self.trained.controlnet, ema_decay(config.ema_decay, self.step + 1))
        self.whole = True
        return mean, norm

    def _fail(self, batch: list[Drawn], loss: float, norm: float) -> None:
        rows = [row for drawn in batch for row in drawn.rows]
        path = self.run / f"nan_step{self.step}_process{self.accelerator.process_index}.json"
        path.write_text(
            json.dumps({"step": self.step, "loss": str(loss), "gradient": str(norm), "rows": rows}, indent=1)
        )
        again = "Begin anew with"
        if steps_saved(self.run) and self.config.connection != "lite":
            of_base = f" and without the trained {self.config.unlock}" if self.trained.unet is not None else ""
            again = f"The last checkpoint is whole: begin a new run with --start-from {self.run}, which takes its "
            again += f"ControlNet alone, without the optimiser's state{of_base}, and"
        what, change = (
            f"the loss is {loss}, its gradient's norm {norm}",
            "a lower --learning-rate, a longer --warmup-steps, or ",
        )
        if math.isfinite(loss) and self.overflows > 1:
            what = f"fp16 overflows: no gradient of the last {self.overflows} steps was finite, all were skipped"
            change = "--precision bf16 or "
        raise MillError(f"step {self.step}: {what}; the batch's rows are in {path}. {again} {change}--precision fp32")

    @contextlib.contextmanager
    def _keeping_steps(self, log: RunLog | None) -> Iterator[None]:
        """Write a checkpoint before an error ends the run.

        Not after a loss that is no number: what led there may be in the weights, and would take a good one's place.
        Nor of several processes, which can't agree on it any more.
        """
        try:
            yield
        except Exception as ending:
            if log and self.whole and self.step > self.saved + 1 and self.accelerator.num_processes == 1:
                try:
                    self.save_checkpoint()
                    log.say(f"an error ends the run; a checkpoint is written at step {self.step}: --resume goes on")
                except Exception as error:
                    log.say(f"an error ends the run; steps since the last checkpoint are lost: {error_text(error)}")
            if isinstance(ending, torch.OutOfMemoryError):
                raise MillError(
                    f"step {self.step}: the memory of {self.base.device} is full ({error_text(ending)}). Begin a run "
                    f"with a smaller --micro-batch-size (now {self.config.micro_batch_size or self.share}), "
                    "--gradient-checkpointing, --precision bf16 or the caches of encode; --estimate tells of each"
                ) from ending
            raise

    def save_checkpoint(self) -> None:
        """Write a checkpoint by the first process; where it cannot, all processes end."""
        self.saved, failed = self.step, None
        if self.accelerator.is_main_process:
            try:
                checkpoint.save(self.run, self.step, self.trained, self.fingerprint, self.config.keep_checkpoints)
                card.write(self.run)
            except Exception as error:  # the others hear of it, or they would wait
                failed = error
        heard = torch.tensor(float(failed is not None), device=self.base.device)
        if self.accelerator.reduce(heard, "sum").item():
            raise failed or MillError("the first process could not write a checkpoint; it says why")


def _optimizer(config: TrainConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    for group in groups:
        group["lr"] = group["full"]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
    from bitsandbytes.optim import AdamW8bit  # that it is installed was checked before anything was loaded

    optimizer: torch.optim.Optimizer = AdamW8bit(groups, weight_decay=config.weight_decay)
    return optimizer


def _average_of(controlnet: ControlNetModel) -> ControlNetModel:
    average = type(controlnet).from_config(controlnet.config)
    average.load_state_dict(controlnet.state_dict())
    return average.requires_grad_(False).to(controlnet.device)


@torch.no_grad()
def _move_average(average: ControlNetModel, controlnet: ControlNetModel, decay: float) -> None:
    for mean, value in zip(average.parameters(), controlnet.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


@contextlib.contextmanager
def _asked_to_stop(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the step that is under way, with a checkpoint; a second Ctrl-C at once."""

    def ask(number: int, frame: Any) -> None:
        trainer.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
