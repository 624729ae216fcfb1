"""What the paper says, each as a quantity that is above zero where it is so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from controlmill.evaluation.convergence import Estimate
from controlmill.evaluation.rise import SUDDEN, Rise, find_rise

from .experiments import LARGEST, RATE, RATES, Training
from .prompts import PROMPTS
from .results import Result
from .training import LOSSES_OVER

MOST = 0.5  # of pictures
AROUND = 10  # means of the training loss before control came and after it

Match = Callable[[Training], bool]
Quantity = Callable[[Result], float | None]


@dataclass(frozen=True)
class Claim:
    """A statement, and how it is asked.

    Args:
        text: what is claimed.
        source: where; "" where it is not the paper's but what one would expect.
        quantity: what is above zero where it holds, in words.
        of: (which trainings, their quantity): values of one seed are added, with their signs.
    """

    text: str
    source: str
    quantity: str
    of: Sequence[tuple[Match, Quantity]]

    def seeds(self, results: Sequence[Result]) -> dict[int, float]:
        """The quantity of each seed for which everything is there."""
        terms = [dict(_values(results, match, quantity)) for match, quantity in self.of]
        whole = set.intersection(*(set(term) for term in terms))
        return {seed: sum(term[seed] for term in terms) for seed in sorted(whole)}


def _values(results: Sequence[Result], match: Match, quantity: Quantity) -> Iterator[tuple[int, float]]:
    for result in results:
        value = quantity(result) if match(result.training) else None
        if value is not None and np.isfinite(value):
            yield result.training.seed, value


def main(rate: float = RATE) -> Match:
    """The paper's ControlNet on the whole corpus."""
    return lambda training: training.group == "main" and training.rate == rate


def architecture(connection: str) -> Match:
    """Of the comparison of architectures."""
    return lambda training: training.group == "architecture" and training.connection == connection


def size(rows: int) -> Match:
    """Of the comparison of sizes; the largest is that of ``main``."""
    if rows == LARGEST:
        return main()
    return lambda training: training.group == "size" and training.rows == rows


def condition(name: str) -> Match:
    """Another condition than canny."""
    return lambda training: training.group == "condition" and training.condition == name


def measured(measurement: str, value: str, sign: float = 1.0, less: float = 0.0) -> Quantity:
    """A measured mean, with a sign, less a number."""

    def quantity(result: Result) -> float | None:
        mean = result.mean(measurement, value)
        return None if mean is None else sign * mean - less

    return quantity


def rise_of(result: Result) -> Rise | None:
    """When condition gain rose and how fast; None where it was not seen to rise."""
    return find_rise([look.step for look in result.looks], [Estimate(x.gain, x.gain_error) for x in result.looks])


def suddenness(result: Result) -> float | None:
    """How far the rise's width over its onset is below that of one that counts as sudden."""
    rise = rise_of(result)
    return None if rise is None else SUDDEN - rise.ratio.value


def quiet_loss(result: Result) -> float | None:
    """One standard deviation less what the training loss fell by while control came, in such deviations.

    Means of ten steps, of the 100 before half of the gain was reached and of the 100 after.
    """
    rise = rise_of(result)
    if rise is None:
        return None
    middle = round(rise.onset.value / LOSSES_OVER)
    before = np.asarray(result.losses[max(0, middle - AROUND) : middle])
    after = np.asarray(result.losses[middle : middle + AROUND])
    if min(len(before), len(after)) < 2:
        return None
    spread = float(np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / 2))
    return 1 - float(before.mean() - after.mean()) / spread


def _least_followed(result: Result) -> float | None:
    shares = [result.mean("prompts", f"{kind}: followed") for kind in PROMPTS]
    known = [share for share in shares if share is not None]
    return min(known) - MOST if len(known) == len(PROMPTS) else None


def _gap(sign: float) -> Quantity:
    """Benefit on rows that were trained on, less that on held-out ones."""

    def quantity(result: Result) -> float | None:
        ours, others = result.mean("benefit", "trained on"), result.mean("benefit", "held out")
        return None if ours is None or others is None else sign * (ours - others)

    return quantity


def _added(name: str, alone: str) -> Quantity:
    def quantity(result: Result) -> float | None:
        both, one = result.mean("added", f"both: {name}"), result.mean("added", f"{alone}: {name}")
        return None if both is None or one is None else both - one

    return quantity


def _difference(measurement: str, value: str, other: str) -> Quantity:
    def quantity(result: Result) -> float | None:
        a, b = result.mean(measurement, value), result.mean(measurement, other)
        return None if a is None or b is None else a - b

    return quantity


def _against(connection: str, kind: str, value: str) -> Sequence[tuple[Match, Quantity]]:
    """The paper's ControlNet less another architecture, with one setting of prompts."""
    name = f"{kind}: {value}"
    return [
        (architecture("zero"), measured("prompts", name)),
        (architecture(connection), measured("prompts", name, -1)),
    ]


OTHERS = {"gaussian": "Gaussian convolutions", "lite": "lite", "random": "a random copy", "input": "input channels"}
ABLATION = {"gaussian": "4.2", "lite": "4.2", "random": "", "input": "first version"}


def claims() -> list[Claim]:
    """All of them."""
    found = [
        Claim(
            f"control appears suddenly, at rate {rate:g}",
            "3.3, figure 4",
            f"{SUDDEN:g} − (steps from 10 % to 90 % of the gain) / (steps before)",
            [(main(rate), suddenness)],
        )
        for rate in RATES
    ]
    found += [
        Claim(
            "the training loss does not show it",
            "",
            "1 − (fall of the training loss over 100 steps before and after) / (its deviation)",
            [(main(), quiet_loss)],
        ),
        Claim(
            "the paper's ControlNet follows the map with every setting of prompts",
            "4.2",
            f"the least share of pictures that follow − {MOST:g}",
            [(architecture("zero"), _least_followed)],
        ),
    ]
    for connection, title in OTHERS.items():
        found += [
            Claim(
                f"without a prompt, the paper's ControlNet gives shapes their usual colours more often than {title}",
                ABLATION[connection],
                "difference of the shares",
                _against(connection, "none", "usual colours"),
            ),
            Claim(
                f"with an insufficient prompt, the paper's ControlNet follows the map better than {title}",
                ABLATION[connection],
                "difference of agreement",
                _against(connection, "insufficient", "agreement"),
            ),
            Claim(
                f"with a conflicting prompt, the paper's ControlNet follows the map better than {title}",
                ABLATION[connection],
                "difference of agreement",
                _against(connection, "conflicting", "agreement"),
            ),
        ]
    follows = measured("prompts", "full: followed", less=MOST)
    found += [
        Claim("training does not collapse on 1,000 rows", "4.5, figure 10", "share − .5", [(size(1_000), follows)]),
        Claim("training does not collapse on 100 rows", "", "share − .5", [(size(100), follows)]),
        Claim(
            "10,000 rows are better than 1,000, held out",
            "4.5, figure 10",
            "difference of benefit",
            [(size(LARGEST), measured("benefit", "held out")), (size(1_000), measured("benefit", "held out", -1))],
        ),
        Claim(
            "1,000 rows are better than 100, held out",
            "4.5, figure 10",
            "difference of benefit",
            [(size(1_000), measured("benefit", "held out")), (size(100), measured("benefit", "held out", -1))],
        ),
        Claim(
            "with 100 rows, training rows gain more over held-out ones than with 10,000",
            "",
            "difference of (benefit trained on − held out)",
            [(size(100), _gap(1)), (size(LARGEST), _gap(-1))],
        ),
        Claim(
            "without a prompt, resolution weighting gives usual colours more often than no weighting",
            "3.4, figure 5",
            "difference of the shares",
            [(main(), _difference("weighting", "resolution: usual colours", "none: usual colours"))],
        ),
        Claim(
            "without a prompt, resolution weighting follows the map better than no weighting",
            "",
            "difference of agreement",
            [(main(), _difference("weighting", "resolution: agreement", "none: agreement"))],
        ),
        Claim(
            "without a prompt, resolution weighting follows the map better than guess mode",
            "",
            "difference of agreement",
            [(main(), _difference("weighting", "resolution: agreement", "guess: agreement"))],
        ),
        Claim(
            "canny and depth added follow the edges better than depth alone",
            "3.4, figure 6",
            "difference of agreement",
            [(condition("depth"), _added("canny", "depth"))],
        ),
        Claim(
            "canny and depth added follow the depth better than canny alone",
            "3.4, figure 6",
            "difference of agreement",
            [(condition("depth"), _added("depth", "canny"))],
        ),
        Claim(
            "control on the first half of the iterations is enough to follow the map",
            "first version",
            "share − .5",
            [(main(), measured("half", "first: followed", less=MOST))],
        ),
        Claim(
            "a masked edit changes what the prompt says",
            "first version",
            "share of shapes in the colour that was asked for − .5",
            [(main(), measured("masked", "edited", less=MOST))],
        ),
        Claim(
            "a masked edit changes nothing outside the mask",
            "first version",
            "1.5 levels − the largest difference to the picture through the VAE",
            [(main(), measured("masked", "outside", -1, less=-1.5))],
        ),
    ]
    found += [
        Claim(
            f"the same method learns {name}",
            "4.1",
            "share of pictures that follow − .5",
            [(condition(name), measured("judged", "followed", less=MOST))],
        )
        for name in ("segmentation", "depth")
    ]
    return found
