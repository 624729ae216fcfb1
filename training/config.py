"""The settings of a run: one dataclass makes the command's flags, the recipes' files and the run's record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from controlmill.annotators.options import WEIGHTS
from controlmill.bases.configuration import Connection, Unlock
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import FORBID
from controlmill.schemas.terminal.options import faults, from_values, option, raise_all
from controlmill.schemas.terminal.ranges import Range

SHORT = 50  # steps: a trial of fewer needs no evaluation or checkpoint between its first and last step
MOST_LOST = 1_000  # steps that a machine that dies may cost
RECIPES = Path(__file__).parent / "settings"
AT_LEAST_ONE = Range(1)
ABOVE_ZERO = Range(open_low=True)
SHARE = Range(0, 1, open_high=True)
SEED = Range(0, 2**63, open_high=True)
LrSchedule = Literal["constant", "linear", "cosine"]
Precision = Literal["fp32", "bf16", "fp16"]
Caches = Literal["auto", "off"]
Optimizer = Literal["adamw", "adamw8bit"]


@dataclass(frozen=True)
class TrainConfig:
    """What a run is. Defaults marked *paper* are ControlNet's (arXiv 2302.05543), *repo* those of its tutorial.

    ``machine`` settings do not decide the weights: they may change when a run goes on.
    """

    __pydantic_config__ = FORBID

    condition: str = option("", "Condition to train on: a table of the dataset. Required.", panel="Data")
    where: list[str] = option([], "Train only on rows that satisfy this, e.g. 'hough.n_lines > 16'. Repeatable.")
    segments: str = option(
        "",
        "Train on these segments of the dataset (one for each ingest, extend or retry), e.g. 0..2.",
        pattern=r"([0-9]+(\.\.[0-9]+)?)?",
        possible="a number, or FIRST..LAST",
        shown="all that there are when the run begins",
    )
    max_train_samples: int = option(0, "Train on this many rows, those of the smallest hash; 0: on all.")
    held_out: float = option(0.02, "Fraction of the rows held out for evaluation, chosen by hash.", within=SHARE)
    crop_size: int = option(0, "Train on random square crops of this side; 0: on whole pictures.")
    random_flip: bool = option(False, "Flip half of the samples horizontally.")
    prompt_dropout: float = option(
        0.5, "Fraction of prompts replaced by the empty prompt, drawn anew each time (paper).", within=Range(0, 1)
    )
    caches: Caches = option("auto", "auto: use the dataset's caches (encode) that fit the run; off: use none.")

    base: str = option(
        "tiny", "Base model: tiny, a diffusers folder, a .safetensors file or a name on the Hub.", panel="Model"
    )
    connection: Connection = option(
        "zero",
        "zero: the paper's ControlNet. gaussian, lite: its ablations. random: a copy drawn at random. input: plain "
        "fine-tuning with the map on the input channels.",
    )
    only_mid_control: bool = option(
        False, "Connect the middle block only (paper: small-scale training). About 4 % faster."
    )
    unlock: Unlock = option(
        "none", "Part of the base to train too. decoder: the UNet's decoder (repo). base: the whole UNet (paper)."
    )
    start_from: str = option("", "ControlNet to start from: a run, a folder or a name on the Hub.")

    steps: int = option(
        10_000, "Optimiser steps.", within=Range(1, 10**8, open_high=True), machine=True, panel="Optimisation"
    )
    batch_size: int = option(4, "Samples per optimiser step, over all processes (repo).", within=Range(1, 2**16))
    micro_batch_size: int = option(
        0, "Samples per forward pass of a process; smaller ones are accumulated. 0: the process's share of the batch."
    )
    learning_rate: float = option(1e-5, "Learning rate (paper).", within=ABOVE_ZERO)
    unlock_learning_rate: float = option(
        2e-6, "Learning rate of the unlocked part of the base (repo).", within=ABOVE_ZERO
    )
    lr_schedule: LrSchedule = option(
        "constant", "Learning rate after the warm-up: constant (repo), or linear or cosine to zero at the last step."
    )
    warmup_steps: int = option(0, "Steps over which the learning rate rises linearly from zero.")
    optimizer: Optimizer = option("adamw", "adamw, or adamw8bit (needs bitsandbytes).")
    weight_decay: float = option(0.01, "Weight decay of AdamW (repo: PyTorch's default).")
    max_grad_norm: float = option(1.0, "Clip gradients to this norm; 0: do not clip (paper).")
    ema_decay: float = option(
        0.0,
        "Decay of an exponential moving average of the weights, e.g. 0.999; at step n at most (1 + n) / (10 + n). "
        "0: no average (repo).",
        within=SHARE,
    )
    min_snr_gamma: float = option(0.0, "Weigh losses by min(SNR, gamma) / SNR; 0: plain losses (paper).")
    noise_offset: float = option(0.0, "Strength of added noise that is constant over a picture; 0: none (paper).")
    seed: int = option(0, "Seed of all random draws.", within=SEED)

    evaluate_every: int = option(
        0,
        "Steps between evaluations on held-out rows; 0: a twentieth of the steps, at least 50. Losses alone are "
        "measured five times as often, and more often while the condition gain rises.",
        machine=True,
        panel="Evaluation",
    )
    evaluation_rows: int = option(32, "Held-out rows to compute losses on.", within=Range(2), machine=True)
    evaluation_budget: float = option(
        0.05, "Largest fraction of the run's time to spend on evaluation; 0: no limit.", machine=True
    )
    evaluation_samples: int = option(8, "Held-out rows to generate pictures for; 0: none.", machine=True)
    sampling_steps: int = option(20, "DDIM steps of a generated picture (paper).", within=AT_LEAST_ONE, machine=True)
    guidance_scale: float = option(
        0.0, "Guidance scale of generated pictures; 0: the base's default (9.0, paper; tiny: 3.0).", machine=True
    )
    evaluation_prompt: str | None = option(
        None, "Prompt of all generated pictures, '' for the empty one; default: each row's caption.", machine=True
    )
    evaluation_image: list[str] = option(
        [],
        "A photo of your own to generate from too (a map, where the condition was imported). Repeatable.",
        machine=True,
    )
    weights: str = option("", WEIGHTS, machine=True)

    checkpoint_every: int = option(
        0,
        "Steps between checkpoints; 0: a tenth of the steps, at least 50 and at most 1,000.",
        machine=True,
        panel="Checkpoints and logging",
    )
    keep_checkpoints: int = option(3, "Checkpoints to keep; older ones are removed.", within=AT_LEAST_ONE, machine=True)
    wandb_project: str = option("", "Log to this Weights & Biases project too.", machine=True)

    device: str = option(
        "auto",
        "auto (the first GPU, else the CPU), cpu, cuda or mps; no cuda:N, CUDA_VISIBLE_DEVICES chooses the GPU.",
        pattern="auto|cpu|mps|cuda(:.*)?",
        possible="auto, cpu, cuda or mps",
        machine=True,
        panel="Machine",
    )
    precision: Precision = option(
        "fp32", "Number format that base and ControlNet compute in; trained weights are always fp32."
    )
    tf32: bool = option(False, "Compute fp32 products in TF32 on NVIDIA GPUs: faster, with 10-bit mantissas.")
    gradient_checkpointing: bool = option(False, "Less memory, about a quarter slower.")
    compile: bool = option(False, "Compile the networks with torch.compile.")
    deterministic: bool = option(False, "Use deterministic kernels only, so that a resumed run is exact on CUDA.")
    threads: int = option(1, "Threads that read and decode.", within=AT_LEAST_ONE, machine=True)
    loader_workers: int = option(0, "Processes that read and decode; 0: threads of the training process.", machine=True)

    def check(self, conditions: str = "") -> None:
        """Find bad settings before anything is opened; ``conditions`` are the dataset's, where they are known.

        Raises:
            MillError: all of them.
        """
        found = faults(self)
        if not self.condition:
            known = f"; there are: {conditions}" if conditions else ""
            found.append(f"--condition: say which table to train on{known}")
        raise_all(found)

    def conflicts(self) -> Iterable[str]:
        """Settings that exclude each other."""
        if self.only_mid_control and self.connection == "lite":
            yield "--only-mid-control needs the copied encoder: not --connection lite"
        if self.only_mid_control and self.connection == "gaussian":
            yield "--only-mid-control holds zero convolutions at zero: not --connection gaussian"
        if self.connection == "input":
            if self.only_mid_control:
                yield "--only-mid-control needs a middle block that is connected: not --connection input"
            if self.unlock != "decoder":
                yield "--connection input fine-tunes the base, encoder and decoder: it needs --unlock decoder"
        if self.connection != "zero" and self.start_from:
            yield f"--start-from leaves no --connection {self.connection}"
        if self.ema_decay > 0 and self.unlock != "none":
            yield (
                "--ema-decay averages the ControlNet alone, which fits no base of the last step: not --unlock "
                f"{self.unlock}"
            )
        if self.evaluation_image and not self.held_out:
            yield "--evaluation-image needs evaluation: --held-out above 0"
        if self.device.startswith("cuda:"):
            yield (
                f"--device {self.device}: training takes no index. Choose the GPU by CUDA_VISIBLE_DEVICES="
                f"{self.device[5:]} and --device cuda, or take several by accelerate launch"
            )

    @property
    def evaluation_interval(self) -> int:
        """Steps between evaluations; the first and the last step are evaluated too."""
        return self.evaluate_every or max(SHORT, self.steps // 20)

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints; the last step is saved too, and the one at which a run is stopped."""
        return self.checkpoint_every or min(max(SHORT, self.steps // 10), MOST_LOST)

    def share(self, processes: int) -> int:
        """Samples of a step that each of several processes takes.

        Raises:
            MillError: they do not divide.
        """
        if self.batch_size % processes:
            raise MillError(f"--batch-size {self.batch_size} does not divide among {processes} processes")
        return self.batch_size // processes

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the weights."""
        return {name: getattr(self, name) for name in vars(self) if name not in self.machine()}

    def machine(self) -> set[str]:
        """The settings that do not; the number of steps does where the learning rate ends with it."""
        names = {f.name for f in dataclasses.fields(self) if f.metadata.get("machine")}
        return names if self.lr_schedule == "constant" else names - {"steps"}


def make_config(recipe: str | None, given: Mapping[str, Any], conditions: str = "") -> TrainConfig:
    """Defaults, then the recipe (a name or a .toml file), then what was given (None: not given).

    ``conditions`` are the dataset's, for a message.

    Raises:
        MillError: no such recipe or setting, or a bad value.
    """
    values = {**(read_recipe(recipe) if recipe else {}), **{k: v for k, v in given.items() if v is not None}}
    config = from_values(TrainConfig, values, f"recipe {recipe}" if recipe else "settings")
    config.check(conditions)
    return config


def read_recipe(name: str) -> dict[str, Any]:
    """Settings of a recipe that comes with ControlMill, or of a .toml file."""
    import tomllib

    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        there = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise MillError(f"no recipe {name!r}; there are: {there}, or give a .toml file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MillError(f"recipe {path}: {error}") from error


def check_same(before: Mapping[str, Any], now: TrainConfig, folder: str, advice: str) -> None:
    """Raise MillError, with what to do, where a run folder was begun with other settings than now."""
    from controlmill.schemas.fingerprint import differences

    old = {name: value for name, value in before.items() if name not in now.machine()}
    changed = differences(old, now.decisive())
    if changed:
        raise MillError(
            f"{folder} is a run with other settings; what differs:\n  " + "\n  ".join(changed) + f"\n{advice}"
        )
