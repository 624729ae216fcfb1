"""Which trainings there are, as data, in the order in which they are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from controlmill.bases.configuration import Connection
from controlmill.schemas.errors import MillError

LARGEST = 10_000  # rows
RATE = 1e-3  # at which control comes within a thousand steps of the tiny base
CONNECTIONS: tuple[Connection, ...] = ("zero", "gaussian", "lite", "random", "input")
CONDITIONS = ("segmentation", "depth")
SIZES = (100, 1_000)
RATES = {1e-3: 1_000, 3e-4: 3_000, 1e-4: 8_000}  # and the steps of each
EVALUATIONS = 20  # of a training whose rise is to be seen
SEEDS, SUDDEN_SEEDS = range(5), range(8)


@dataclass(frozen=True)
class Training:
    """One training.

    Args:
        group: the experiment that it belongs to.
        condition: a table of the dataset.
        connection: how the ControlNet joins the base.
        rows: that are trained on.
        rate: the learning rate.
        steps: of the optimiser.
        seed: of everything that is drawn.
        evaluate_every: steps between evaluations; losses, which tell the condition gain, are looked at more often.
        measured: names of :data:`measurements.MEASUREMENTS`.
        beside: another, whose ControlNet is added in measurements.
    """

    group: str
    condition: str = "canny"
    connection: Connection = "zero"
    rows: int = LARGEST
    rate: float = RATE
    steps: int = 1_000
    seed: int = 0
    evaluate_every: int = 500
    measured: tuple[str, ...] = ()
    beside: Training | None = None

    @property
    def name(self) -> str:
        """Unique, and the stem of its files."""
        parts = [self.group, self.condition]
        parts += [self.connection] if self.connection != "zero" else []
        parts += [f"{self.rows}rows"] if self.rows != LARGEST else []
        parts += [f"{self.rate:.0e}".replace("e-0", "e-")] if self.rate != RATE else []
        return "-".join([*parts, f"seed{self.seed}"])

    @property
    def is_shown(self) -> bool:
        """Whether pictures of it are on the page."""
        return self.seed == 0 and "prompts" in self.measured


def trainings() -> list[Training]:
    """All of them: what decides most claims with the fewest steps comes first, and all of a seed together."""
    chosen: list[Training] = []
    for seed in SUDDEN_SEEDS[:3]:
        chosen.append(_main(seed))
    for seed in SEEDS:
        chosen += _architectures(seed)
    for seed in SEEDS:
        chosen += _sizes(seed)
    for seed in SUDDEN_SEEDS[3:]:
        chosen.append(_main(seed))
    for seed in SEEDS:
        chosen += _conditions(seed)
    for rate, steps in RATES.items():
        if rate != RATE:
            chosen += [
                Training("main", rate=rate, steps=steps, seed=seed, evaluate_every=steps // EVALUATIONS)
                for seed in SUDDEN_SEEDS
            ]
    return chosen


def _main(seed: int) -> Training:
    """The paper's ControlNet on the whole corpus, looked at often; its pictures show most of what is asked."""
    return Training(
        "main",
        seed=seed,
        evaluate_every=RATES[RATE] // EVALUATIONS,
        measured=("prompts", "weighting", "half", "masked", "benefit"),
    )


def _architectures(seed: int) -> Iterator[Training]:
    """Few rows and a lower rate: what a copy of the base knows is not overwritten at once."""
    for connection in CONNECTIONS:
        yield Training(
            "architecture", connection=connection, rows=1_000, rate=3e-4, steps=1_500, seed=seed, measured=("prompts",)
        )


def _sizes(seed: int) -> Iterator[Training]:
    """The largest is that of ``main``."""
    for rows in SIZES:
        yield Training("size", rows=rows, seed=seed, measured=("prompts", "benefit"))


def _conditions(seed: int) -> Iterator[Training]:
    """The last is added to that of ``main``."""
    for condition in CONDITIONS:
        added = condition == "depth"
        yield Training(
            "condition",
            condition,
            seed=seed,
            measured=("judged", "added") if added else ("judged",),
            beside=_main(seed) if added else None,
        )


def named(name: str, among: Sequence[Training]) -> Training:
    """The training of a name. Raises MillError where there is none."""
    found = next((training for training in among if training.name == name), None)
    if found is None:
        raise MillError(f"no training {name!r}; there are, for example, {among[0].name} and {among[-1].name}")
    return found
