"""The training loop.

Reads from the tables, encodes, predicts, steps; evaluates on held-out rows now and then; writes checkpoints. accelerate
prepares the model and the optimiser only: order, draws and learning rate are functions of the step, so that a run which
was killed goes on bit for bit, and two processes see what one would.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import GradientAccumulationPlugin

from controlmill.bases.base import Prompt
from controlmill.evaluation.rows import Sample
from controlmill.schemas.errors import MillError, error_text

from .arithmetic import arithmetic
from .config import TrainConfig
from .data.ahead import ahead
from .data.processes import batches
from .divergence import DivergenceCheck
from .evaluations import begin_evaluations
from .networks import build, load_for_training, move_average
from .run import card, checkpoint
from .run.log import RunLog
from .run.prepare import Prepared
from .run.record import published
from .run.report import go_back
from .run.saved import check
from .schedules import ema_decay, learning_rate
from .step import Drawn, draw, encode, sample_losses, upload
from .stopping import stop_on_signals

LONGEST_EVALUATION = timedelta(hours=2)


@dataclass(frozen=True)
class StepResult:
    """Mean loss of the whole batch, norm of its gradient, and whether a process was told to stop."""

    loss: float
    norm: float
    stop: bool = False


class Trainer:
    """One run: what was prepared, the networks, and the loop over them. ``step`` counts the steps that are done."""

    def __init__(self, run: Path, config: TrainConfig, prepared: Prepared, resume: bool):
        self.run, self.config, self.prepared = run, config, prepared
        precision = {"fp32": "no"}.get(config.precision, config.precision)
        waits = InitProcessGroupKwargs(timeout=LONGEST_EVALUATION)  # the other processes, while the first one evaluates
        self.accelerator = Accelerator(
            mixed_precision=precision,
            cpu=config.device == "cpu",
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # micro-batches are summed here
            kwargs_handlers=[waits],
        )
        self.share = config.share(self.accelerator.num_processes)
        self.micro = config.micro_batch_size or self.share
        scaler = self.accelerator.scaler
        saved = check(run) if resume else None
        self.base, self.fingerprint = load_for_training(config, self.accelerator.device, run, saved)
        denoiser, self.trained = build(self.base, prepared, config, run if resume else None, scaler)
        self.step = checkpoint.restore(run, self.trained).step if resume else 0
        if resume and self.accelerator.is_main_process:
            checkpoint.offer(run)
        self.saved = self.step  # the step of the last checkpoint, also of one that could not be written
        self.updating = False  # from when the update of a step begins until it has ended well
        self.divergence = DivergenceCheck(run, config, scaler is not None, self.accelerator.process_index)
        self.denoiser, self.optimizer = self.accelerator.prepare(denoiser, self.trained.optimizer)
        if config.compile:
            self.denoiser = torch.compile(self.denoiser)
        self.parameters = [p for group in self.trained.optimizer.param_groups for p in group["params"]]

    def train(self) -> int:
        """Train to the last step, or until told to stop; returns the steps done."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(arithmetic(self.config.tf32, self.config.deterministic))
            log = stack.enter_context(contextlib.closing(self._log())) if self.accelerator.is_main_process else None
            self._train(log)
        return self.step

    def _train(self, log: RunLog | None) -> None:
        config = self.config
        if log:
            go_back(self.run, log, self.step)
        evaluations = begin_evaluations(self.base, self.prepared, config, self.run, log, self.micro) if log else None
        source = self._batches(log)
        with contextlib.closing(source), stop_on_signals() as interrupt, self._saving_on_error(log):
            if evaluations:
                evaluations.evaluate_if_due(self.step, self.trained, interrupt, True, self.step >= config.steps)
            stop = False
            while self.step < config.steps and not stop:
                started = time.monotonic()
                result = self.train_step(next(source), interrupt.requested)
                self.step, stop = self.step + 1, result.stop
                last = self.step == config.steps
                if log:
                    rate, seconds = self.optimizer.param_groups[0]["lr"], time.monotonic() - started
                    log.step(self.step, result.loss, result.norm, rate, seconds)
                if last or stop or self.step % config.checkpoint_interval == 0:
                    self.save_checkpoint()
                if evaluations and (last or not stop):  # a run that goes on begins with one
                    evaluations.evaluate_if_due(self.step, self.trained, interrupt, last=last)

    def train_step(self, batch: list[Drawn], stop: bool = False) -> StepResult:
        """One optimiser step over this process's share of a batch; ``stop`` is told to the other processes."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = group["full"] * learning_rate(config, self.step)
        result = self._backward(batch, stop)
        self.updating = True
        self.divergence.check(self.step, result.loss, result.norm, [row for drawn in batch for row in drawn.rows])
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.trained.average is not None:
            move_average(self.trained.average, self.trained.controlnet, ema_decay(config.ema_decay, self.step + 1))
        self.updating = False
        return result

    def _backward(self, batch: list[Drawn], stop: bool) -> StepResult:
        """Clipped gradients of a batch, from micro-batches of each process."""
        losses = torch.zeros((), device=self.base.device)
        for drawn in batch:
            inputs = encode(self.base, drawn, self.empty)
            with (
                contextlib.nullcontext() if drawn is batch[-1] else self.accelerator.no_sync(self.denoiser),
                self.accelerator.autocast(),
            ):
                loss = sample_losses(self.base, self.denoiser, inputs, self.config).sum() / self.share
            self.accelerator.backward(loss)
            losses = losses + loss.detach()
        shared = torch.stack([losses, losses.new_tensor(float(stop))])
        mean, stopped = self.accelerator.reduce(shared, "mean").tolist()
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm or math.inf))
        return StepResult(mean, norm, stopped > 0)

    @functools.cached_property
    def empty(self) -> Prompt | None:
        """The empty prompt, encoded, where those of captions come from a cache."""
        return self.base.encode_prompts([""]) if self.prepared.caches.text else None

    def prepare(self, samples: list[Sample]) -> list[Drawn]:
        """This process's share of a batch as micro-batches on the device; safe in a thread beside a step."""
        parts = [samples[first : first + self.micro] for first in range(0, len(samples), self.micro)]
        condition, device = self.prepared.condition, self.base.device
        return [upload(draw(self.base, part, condition, self.config), device) for part in parts]

    def save_checkpoint(self) -> None:
        """Write a checkpoint by the first process; where it cannot, all processes end."""
        self.saved, failed = self.step, None
        if self.accelerator.is_main_process:
            try:
                checkpoint.save(self.run, self.step, self.trained, self.fingerprint, self.config.keep_checkpoints)
                card.write(self.run)
            except Exception as error:  # the others are told, or they would wait
                failed = error
        failures = torch.tensor(float(failed is not None), device=self.base.device)
        if self.accelerator.reduce(failures, "sum").item():
            raise failed or MillError("the first process could not write a checkpoint; it says why")

    def _log(self) -> RunLog:
        settings = asdict(published(self.config))
        return RunLog(self.run, self.step, self.config.steps, self.config.wandb_project, settings)

    def _batches(self, log: RunLog | None) -> Generator[list[Drawn], None, None]:
        """What this process takes of each batch from the next step on; one is made ahead."""
        loader, processes = self.prepared.loader(self.config), self.accelerator.num_processes
        workers = min(self.config.loader_workers, self.share)  # more would have nothing to read
        if log:
            for note in loader.notes(processes * max(1, workers)):
                log.say(note)
        read = batches(loader, self.step, self.accelerator.process_index, processes, workers)
        return ahead(read, self.prepare)

    @contextlib.contextmanager
    def _saving_on_error(self, log: RunLog | None) -> Iterator[None]:
        """Write a checkpoint before an error ends the run.

        Not in the middle of an update, nor after a loss that is no number: what led there may be in the weights, and
        would take a good one's place. Nor of several processes, which can't agree on it any more.
        """
        try:
            yield
        except Exception as ending:
            if log and not self.updating and self.step > self.saved + 1 and self.accelerator.num_processes == 1:
                try:
                    self.save_checkpoint()
                    log.say(f"an error ends the run; a checkpoint is written at step {self.step}: --resume goes on")
                except Exception as error:
                    log.say(f"an error ends the run; steps since the last checkpoint are lost: {error_text(error)}")
            if isinstance(ending, torch.OutOfMemoryError):
                raise MillError(
                    f"step {self.step}: the memory of {self.base.device} is full ({error_text(ending)}). Begin a run "
                    f"with a smaller --micro-batch-size (now {self.micro}), --gradient-checkpointing, "
                    "--precision bf16 or the caches of encode; --estimate tells of each"
                ) from ending
            raise
