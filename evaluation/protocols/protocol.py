"""A protocol: a TOML file that says how pictures are sampled, judged and measured, and what was published of it."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from controlmill.annotators.catalogue import parse_condition
from controlmill.schemas.bounds import Positive
from controlmill.schemas.conditions import CONDITIONS, Condition
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import FORBID, made_of
from controlmill.schemas.results import PublishedRecord

from ..features.catalogue import PICTURE_MEASURES
from ..measures.catalogue import MEASURES, measures_of
from ..measures.measure import Measure
from ..sampling.settings import SamplingSettings

OF_MAPS = "maps"  # in a protocol's measures: all that compare the condition's maps
NOT_COMPARABLE = "not comparable: "
PromptKind = Literal["none", "default", "auto", "user"]


@dataclass(frozen=True)
class SelfTest:
    """A ControlNet that everybody can have, and the published value that it should give.

    Args:
        controlnet: its name on the hub.
        base: the name of its base.
        measure: the published measure.
        method: whose published value it is (``PublishedRecord.method``).
    """

    __pydantic_config__ = FORBID

    controlnet: str
    base: str
    measure: str
    method: str


@dataclass(frozen=True)
class Protocol:
    """How a ControlNet is evaluated.

    Args:
        title: for people.
        source: what it reproduces: paper and table, files of a repository.
        measures: names; the first is the one that the protocol is known for. ``maps`` stands for all that compare the
            condition's maps.
        sampling: how pictures are sampled.
        name: what it is asked for by.
        condition: what it is for; empty: whatever the ControlNet's condition is.
        dataset: on the hub, whose rows were evaluated, ``OWNER/NAME``; empty: the source does not say.
        prompts: kinds of prompt.
        pictures_per_row: of each kind of prompt.
        size: pixels of a picture's sides, 0 for whatever the dataset has.
        resize: how pictures and maps come to that size.
        annotator: ``condition=variant`` that makes the true maps, which are given too; empty: the dataset's, whatever
            made them.
        judge: ``condition=variant`` that annotates the sampled pictures; empty: what made the true maps.
        fid_of_groups: whether FID is the mean over j of picture j of every row, instead of one of all pictures.
        published: by measure.
        not_comparable: by measure, why a value of this protocol is not one of the source's.
        quirks: of the source, that decide numbers.
        choices: what the source does not say and is chosen here.
        self_test: what ``--self-test`` runs; None where no published value is comparable.
    """

    __pydantic_config__ = FORBID

    title: str
    source: str
    measures: tuple[str, ...]
    sampling: SamplingSettings
    name: str = ""
    condition: str = ""
    dataset: str = ""
    prompts: tuple[PromptKind, ...] = ("user",)
    pictures_per_row: Positive = 1
    size: Annotated[int, Field(ge=0, le=8192)] = 0
    resize: str = ""
    annotator: str = ""
    judge: str = ""
    fid_of_groups: bool = False
    published: dict[str, tuple[PublishedRecord, ...]] = field(default_factory=dict)
    not_comparable: dict[str, str] = field(default_factory=dict)
    quirks: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    self_test: SelfTest | None = None

    def check(self) -> None:
        """Raise ValueError where it names what is not there, or contradicts itself."""
        known = (OF_MAPS, *PICTURE_MEASURES, *MEASURES)
        named = (*self.measures, *self.published, *self.not_comparable)
        unknown = [name for name in named if name not in known]
        if unknown:
            raise ValueError(f"no measure is called {unknown[0]}; there are {', '.join(known)}")
        if not self.measures or not self.prompts or len(set(self.prompts)) < len(self.prompts):
            raise ValueError("measures and prompts: at least one of each, and none twice")
        if self.condition and self.condition not in CONDITIONS:
            raise ValueError(f"no condition is called {self.condition}; there are {', '.join(CONDITIONS)}")
        if self.condition:
            self.measures_for(CONDITIONS[self.condition])
        self.sampling.check()
        for choice in filter(None, (self.annotator, self.judge)):
            parse_condition(choice)
        if self.self_test:
            self._check_self_test(self.self_test)

    def _check_self_test(self, test: SelfTest) -> None:
        if all(value.method != test.method for value in self.published.get(test.measure, ())):
            raise ValueError(f"self_test: {test.method} has no published {test.measure}")
        if test.measure in self.not_comparable:
            raise ValueError(f"self_test: {test.measure} is not comparable")

    def measures_for(self, condition: Condition) -> tuple[Measure, ...]:
        """The measures that compare a condition's maps, in the protocol's order.

        Raises:
            ValueError: one of them compares the maps of another condition.
        """
        found: list[Measure] = []
        for name in self.measures:
            if name == OF_MAPS:
                found += [measure for measure in measures_of(condition) if measure not in found]
            elif name in MEASURES:
                if MEASURES[name].fidelity != condition.fidelity:
                    raise ValueError(f"{name} does not compare maps of {condition.name}")
                found.append(MEASURES[name])
        return tuple(found)

    def measures_of_pictures(self) -> tuple[str, ...]:
        """The measures that need no map, in the protocol's order."""
        return tuple(name for name in self.measures if name in PICTURE_MEASURES)


def read_protocol(name: str) -> Protocol:
    """A protocol that comes with ControlMill, by its name, or of a ``.toml`` file.

    A published value without a source has the protocol's; its note says why it is not comparable, where it is not.

    Raises:
        MillError: there is none, or it is none.
    """
    path = Path(name) if name.endswith(".toml") else Path(str(resources.files(__package__))) / f"{name}.toml"
    if not name.endswith(".toml") and name not in protocol_names():
        raise MillError(
            f"no protocol is called {name!r}; there are {', '.join(protocol_names())}, or give a .toml file"
        )
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        protocol = made_of(Protocol, {**_complete(values), "name": path.stem if name.endswith(".toml") else name})
        protocol.check()
    except OSError as error:
        raise MillError(f"protocol {name} cannot be read: {error.strerror}") from error
    except (MillError, ValueError, TypeError) as error:  # TOML's, Unicode's and JSON's errors are among them
        raise MillError(f"protocol {name}: {error}") from error
    notes = {key: NOT_COMPARABLE + why for key, why in protocol.not_comparable.items()}
    published = {
        key: tuple(replace(value, note=value.note or notes.get(key, "")) for value in several)
        for key, several in protocol.published.items()
    }
    return replace(protocol, published=published)


def protocol_names() -> list[str]:
    """Names of the protocols that come with ControlMill."""
    folder = Path(str(resources.files(__package__)))
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))


def fitting(protocol: Protocol, condition: Condition) -> tuple[Measure, ...]:
    """The measures of maps that a protocol has for a condition.

    Raises:
        MillError: it is for another condition.
    """
    if protocol.condition and protocol.condition != condition.name:
        raise MillError(
            f"protocol {protocol.name} is for {protocol.condition}, not for {condition.name}; "
            "--protocol controlmill is for every condition"
        )
    try:
        return protocol.measures_for(condition)
    except ValueError as error:
        raise MillError(f"protocol {protocol.name}: {error}") from error


def _complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """A file's values, with the protocol's source where a published value has none.

    Raises:
        ValueError: ``[sampling]`` has an unknown name, or a part is not of the form that it must have.
    """
    sampling, published = values.get("sampling", {}), values.get("published", {})
    if not isinstance(sampling, Mapping) or not isinstance(published, Mapping):
        raise ValueError("[sampling] and [published] are tables")
    names = [one.name for one in dataclasses.fields(SamplingSettings)]
    unknown = sorted(set(sampling) - set(names))
    if unknown:
        raise ValueError(f"[sampling] has no {unknown[0]}; there are {', '.join(names)}")
    sources = {"source": values.get("source", "")}
    return {
        **values,
        "sampling": sampling,
        "published": {
            measure: [sources | value if isinstance(value, dict) else value for value in several]
            if isinstance(several, list)
            else several
            for measure, several in published.items()
        },
    }
