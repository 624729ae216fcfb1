"""The settings of a run: one dataclass makes the command's flags, the recipe files and what checkpoints say."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.jsonfile import FORBID
from controlmill.schemas.fingerprint import differences

SHORT = 50  # steps: a trial of a few is not for looks and checkpoints
LARGEST = 2.0**1023
RECIPES = Path(__file__).parent / "settings"
Connection = Literal["zero", "gaussian", "lite"]
Rates = Literal["constant", "linear", "cosine"]
Unlock = Literal["none", "decoder", "base"]
Precision = Literal["fp32", "bf16", "fp16"]
Caches = Literal["auto", "off"]
Optimizer = Literal["adamw", "adamw8bit"]
WITHIN: dict[str, Callable[[float], bool]] = {
    "above 0": lambda value: value > 0,
    "0 or more": lambda value: value >= 0,
    "1 or more": lambda value: value >= 1,
    "2 or more": lambda value: value >= 2,
    "from 0 to 1": lambda value: 0 <= value <= 1,
    "from 0 to below 1": lambda value: 0 <= value < 1,
    "from 1 to 2**16": lambda value: 1 <= value <= 2**16,
    "from 1 to below 10**8": lambda value: 1 <= value < 10**8,
    "from 0 to below 2**63": lambda value: 0 <= value < 2**63,
}  # what a number may be, as messages say it


def option(default: Any, text: str, within: str = "0 or more", machine: bool = False) -> Any:
    """A setting; a number is ``within`` what WITHIN says.

    ``machine`` settings do not decide the weights: they may change when a run goes on.
    """
    metadata = {"help": text, "within": within, "machine": machine}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class TrainConfig:
    """What a run is. Defaults marked *paper* are ControlNet's (arXiv 2302.05543), *repo* those of its tutorial."""

    __pydantic_config__ = FORBID

    condition: str = option("", "Condition to train on: a table of the dataset.")
    base: str = option("tiny", "tiny, a folder, a .safetensors file or a name on the hub.")
    where: list[str] = option([], "Take only such rows, e.g. 'hough.n_lines > 16'; repeat for more.")
    max_train_samples: int = option(0, "Rows to train on, those of the smallest hash; 0: all.")
    held_out: float = option(0.02, "Share of rows, by hash, that are never trained on.", "from 0 to below 1")
    crop_size: int = option(0, "Side of a random square window; 0: whole pictures.")
    random_flip: bool = option(False, "Mirror half of the samples.")
    caches: Caches = option("auto", "auto: use the caches (encode) that fit; off: use none.")

    connection: Connection = option("zero", "zero (paper), gaussian or lite (its ablations).")
    only_mid_control: bool = option(False, "Connect the middle block alone (paper: small-scale training; 4 % faster).")
    unlock: Unlock = option(
        "none", "What of the base trains too: none, its decoder (repo), or base, the whole UNet (paper: large-scale)."
    )
    start_from: str = option("", "A ControlNet to start from: a run, a folder or a name on the hub.")

    steps: int = option(10_000, "Optimiser steps.", "from 1 to below 10**8", machine=True)
    batch_size: int = option(4, "Samples per optimiser step, over all processes (repo).", "from 1 to 2**16")
    micro_batch_size: int = option(0, "Samples per forward pass of a process; 0: its share of the batch.")
    learning_rate: float = option(1e-5, "Learning rate (paper).", "above 0")
    unlock_learning_rate: float = option(2e-6, "Learning rate of what is unlocked (repo).", "above 0")
    lr_schedule: Rates = option("constant", "constant (repo), linear or cosine, to zero at the last step.")
    warmup_steps: int = option(0, "Steps over which the learning rate rises.")
    optimizer: Optimizer = option("adamw", "adamw, or adamw8bit with bitsandbytes.")
    weight_decay: float = option(0.01, "AdamW's (repo: PyTorch's default).")
    max_grad_norm: float = option(1.0, "Largest norm of a gradient; 0: no limit.")
    ema_decay: float = option(
        0.0,
        "Decay of averaged weights, e.g. 0.999; it rises by (1 + step) / (10 + step); 0: none (repo).",
        "from 0 to below 1",
    )

    prompt_dropout: float = option(
        0.5, "Share of prompts replaced by empty ones, drawn each time (paper).", "from 0 to 1"
    )
    min_snr_gamma: float = option(0.0, "Weight losses by min(SNR, this) / SNR; 0: plain (paper).")
    noise_offset: float = option(0.0, "Strength of noise that is constant over a picture; 0: none (paper).")

    precision: Precision = option("fp32", "Arithmetic: fp32, bf16 or fp16; trained weights are fp32.")
    tf32: bool = option(False, "fp32 on NVIDIA GPUs with 10-bit mantissas in products: faster; off: exact.")
    gradient_checkpointing: bool = option(False, "Less memory, about a quarter slower.")
    compile: bool = option(False, "torch.compile the networks.")
    deterministic: bool = option(False, "Only deterministic kernels, for exact resume on CUDA.")
    seed: int = option(0, "Seed of everything drawn.", "from 0 to below 2**63")

    checkpoint_every: int = option(0, "Steps between checkpoints; 0: a tenth of all, at least 50.", machine=True)
    keep_checkpoints: int = option(3, "Checkpoints kept.", "1 or more", machine=True)
    evaluate_every: int = option(0, "Steps between looks at held-out rows; 0: a twentieth, at least 50.", machine=True)
    evaluation_rows: int = option(32, "Held-out rows for losses.", "2 or more", machine=True)
    evaluation_samples: int = option(8, "Held-out rows that pictures are sampled for; 0: none.", machine=True)
    sampling_steps: int = option(20, "DDIM steps of a sampled picture (paper).", "1 or more", machine=True)
    guidance_scale: float = option(
        0.0, "Guidance scale of sampled pictures; 0: the base's own (9.0, paper; tiny: see its card).", machine=True
    )
    evaluation_budget: float = option(0.05, "Share of the time that may go into looks; 0: no bound.", machine=True)
    evaluation_prompt: str | None = option(
        None, "Sample all probes with this prompt, '' for none; not given: with their captions.", machine=True
    )
    evaluation_image: list[str] = option(
        [], "Your own picture as one more probe (a map where the table is imported); repeat for more.", machine=True
    )
    weights: str = option("", "Folder with annotators' weights, as for annotate.", machine=True)
    wandb_project: str = option("", "Project on Weights & Biases that is told what TensorBoard is told.", machine=True)
    device: str = option("auto", "auto, cpu, cuda or mps.", machine=True)
    threads: int = option(1, "Threads that decode.", "1 or more", machine=True)
    loader_workers: int = option(0, "Processes that read and decode; 0: threads of this one.", machine=True)

    def check(self, there: str = "") -> None:
        """Find bad settings before anything is opened. ``there`` are the dataset's conditions, where they are known.

        Raises:
            MillError: all of them.
        """
        faults = [
            f"--{name.replace('_', '-')} {getattr(self, name)}: one of {', '.join(get_args(kind))}"
            for name, kind in TYPES.items()
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind)
        ]
        faults += number_faults(
            (f"--{f.name.replace('_', '-')}", getattr(self, f.name), f.metadata["within"])
            for f in dataclasses.fields(self)
            if TYPES[f.name] in (int, float)
        )
        rules = (
            (not self.condition, f"--condition: say which table to train on{there and f'; there are: {there}'}"),
            (
                self.only_mid_control and self.connection == "lite",
                "--only-mid-control needs the copied encoder: not --connection lite",
            ),
            (
                self.connection != "zero" and bool(self.start_from),
                f"--start-from leaves no --connection {self.connection}",
            ),
            (
                self.only_mid_control and self.connection == "gaussian",
                "--only-mid-control holds zero convolutions at zero: not gaussian",
            ),
            (
                self.ema_decay > 0 and self.unlock != "none",
                f"--ema-decay averages the ControlNet alone, which fits no base of the last step: not --unlock "
                f"{self.unlock}",
            ),
            (bool(self.evaluation_image) and not self.held_out, "--evaluation-image needs looks: --held-out above 0"),
            (
                not re.fullmatch(r"auto|cpu|mps|cuda(:.*)?", self.device),
                f"--device {self.device}: choose auto, cpu, cuda or mps",
            ),
            (
                self.device.startswith("cuda:"),
                f"--device {self.device}: training takes no index. Choose the GPU by CUDA_VISIBLE_DEVICES="
                f"{self.device[5:]} and --device cuda, or take several by accelerate launch",
            ),
        )
        faults += [text for broken, text in rules if broken]
        if faults:
            raise MillError("\n  ".join(faults))

    @property
    def evaluation_interval(self) -> int:
        """Steps between looks; besides, the first and the last step are looked at."""
        return self.evaluate_every or max(SHORT, self.steps // 20)

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints; besides, the last step is saved, and the one that a run is stopped at."""
        return self.checkpoint_every or max(SHORT, self.steps // 10)

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
        return {name: getattr(self, name) for name in TYPES if name not in self.machine()}

    def machine(self) -> set[str]:
        """The settings that do not; the number of steps does where the learning rate ends with it."""
        names = {f.name for f in dataclasses.fields(self) if f.metadata["machine"]}
        return names if self.lr_schedule == "constant" else names - {"steps"}


TYPES = get_type_hints(TrainConfig)


def value_type(name: str) -> type:
    """Of a setting that is given: bool, int, float, str or list."""
    kind = TYPES[name]
    if get_origin(kind) is Literal:
        return str
    given: type = next((part for part in get_args(kind) if part is not NoneType), kind)  # X of X | None
    return list if get_origin(kind) is list else given


def _finite(value: float) -> bool:
    """Also of whole numbers that no float holds."""
    return abs(value) < LARGEST


def number_faults(numbers: Iterable[tuple[str, float, str]]) -> list[str]:
    """What is wrong with numbers, each (flag, value, what WITHIN allows), in a line each."""
    return [
        f"{flag} is {within if _finite(value) else 'a finite number'}, not {value}"
        for flag, value, within in numbers
        if not (_finite(value) and WITHIN[within](value))
    ]


def make_config(recipe: str | None, given: Mapping[str, Any], there: str = "") -> TrainConfig:
    """Defaults, then the recipe (a name or a .toml file), then what was given (None: not given).

    ``there`` are the dataset's conditions, for a message.

    Raises:
        MillError: no such recipe or setting, or a bad value.
    """
    values = {**(read_recipe(recipe) if recipe else {}), **{k: v for k, v in given.items() if v is not None}}
    unknown = sorted(set(values) - set(TYPES))
    if unknown:
        raise MillError(f"recipe {recipe}: no setting {', '.join(unknown)}; there are: {', '.join(TYPES)}")
    for name, value in values.items():
        wanted = value_type(name)
        if not isinstance(value, wanted) and not (wanted is float and isinstance(value, int)):
            raise MillError(f"{name} = {value!r}: should be {wanted.__name__}")
    config = TrainConfig(**values)
    config.check(there)
    return config


def read_recipe(name: str) -> dict[str, Any]:
    """Settings of a recipe that comes with ControlMill, or of a .toml file."""
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        there = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise MillError(f"no recipe {name!r}; there are: {there}, or give a .toml file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MillError(f"recipe {path}: {error}") from error


def check_same(before: Mapping[str, Any], now: TrainConfig, folder: str) -> None:
    """Raise MillError where a run folder was begun with other settings than now."""
    old = {name: value for name, value in before.items() if name not in now.machine()}
    changed = differences(old, now.decisive())
    if changed:
        raise MillError(
            f"{folder} is a run with other settings; what differs:\n  "
            + "\n  ".join(changed)
            + "\nchoose another folder"
        )
