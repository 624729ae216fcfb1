"""From the chosen conditions to the fewest forward passes: annotators that name one network share it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlmill.schemas.errors import MillError

from .base import Annotator, Network
from .catalogue import Choice
from .runtime.weights import Found, WeightsFile, find, missing_message


@dataclass(frozen=True)
class ForwardGroup:
    """Choices that are made together: all that need no network, or all that share one."""

    choices: tuple[Choice, ...]

    def annotators(self) -> list[Annotator]:
        """The annotators, in the order of the choices."""
        return [choice.build() for choice in self.choices]

    def network(self) -> type[Network] | None:
        """The network that they share."""
        return self.choices[0].build().network


def forward_groups(choices: Iterable[Choice]) -> list[ForwardGroup]:
    """The fewest groups, those without a network first, otherwise in the order asked for."""
    groups: dict[type[Network] | None, list[Choice]] = {None: []}
    for choice in choices:
        groups.setdefault(choice.build().network, []).append(choice)
    return [ForwardGroup(tuple(members)) for members in groups.values() if members]


def files_of(choices: Iterable[Choice]) -> dict[WeightsFile, list[str]]:
    """Files of weights → the conditions that need them."""
    users: dict[WeightsFile, list[str]] = {}
    for choice in choices:
        network = choice.build().network
        for file in network.weights if network else ():
            users.setdefault(file, []).append(choice.condition)
    return users


def find_weights(choices: Sequence[Choice], folder: str | None) -> list[Found]:
    """The weights of all networks.

    Raises:
        MillError: with every missing file and how to get it.
    """
    users = files_of(choices)
    found, missing = find(users, folder)
    if missing:
        raise MillError(missing_message([(", ".join(users[file]), file) for file in missing], folder))
    return found
