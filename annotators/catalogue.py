"""Which variants of which condition can be made, and by which class. A new annotator is one row here and one file.

A condition's variant is always said: ``hough=lsd`` and ``hough`` are different things, and neither stands in for the
other.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlmill.schemas.conditions import CONDITIONS, NAME, NAME_RULE
from controlmill.schemas.errors import MillError

from .base import Annotator

OWN_LICENCE = "weights with a licence of their own (non-commercial use only):"


@dataclass(frozen=True)
class Variant:
    """One way to make a condition. The first of a condition is its default, asked for by the bare name.

    ``pattern`` variants carry numbers instead of a name (``canny=100:200``); the groups are the parameters.
    ``licence_gate`` names a licence that this variant needs beside the one its condition may need.
    """

    condition: str
    name: str
    target: str
    summary: str
    pattern: str | None = None
    licence_gate: str | None = None


VARIANTS = (
    Variant("canny", "random", "canny:RandomCanny", "thresholds drawn for each row"),
    Variant("canny", "LOW:HIGH", "canny:Canny", "fixed thresholds", pattern=r"(?P<low>\d+):(?P<high>\d+)"),
    Variant("canny", "kornia", "canny:KorniaCanny", "kornia's detector at .1 and .2, for ControlNet++'s protocol"),
    Variant("hough", "mlsd", "mlsd:MLSDLines", "M-LSD network"),
    Variant("hough", "lsd", "lsd:LineSegments", "OpenCV line segment detector, no weights"),
    Variant("hed", "soft", "hed:SoftHED", "soft boundaries"),
    Variant("hed", "safe", "hed:SafeHED", "boundaries in three levels"),
    Variant("scribble", "hed", "hed:Scribble", "strokes from HED, sharing its forward pass"),
    Variant("scribble", "random", "scribble:RandomScribble", "the same, with strokes drawn for each row"),
    Variant("pose", "body", "openpose:BodyPose", "OpenPose network"),
    Variant("pose", "face", "openpose:FacePose", "OpenPose with faces"),
    Variant("pose", "hands", "openpose:HandPose", "OpenPose with faces and hands, slow"),
    Variant("segmentation", "upernet", "segmentation:UperNetClasses", "UperNet-ConvNeXt-small"),
    Variant("segmentation", "oneformer", "segmentation:OneFormerClasses", "OneFormer-Swin-tiny"),
    Variant(
        "segmentation",
        "segformer",
        "segmentation:SegFormerClasses",
        "SegFormer-B0, fast; non-commercial licence",
        licence_gate="segformer",
    ),
    Variant("segmentation", "oneformer-large", "segmentation:OneFormerLargeClasses", "OneFormer-Swin-large, a judge"),
    Variant("segmentation", "mask2former", "segmentation:Mask2FormerClasses", "Mask2Former-Swin-large, a judge"),
    Variant("depth", "dpt", "depth:DPTDepth", "MiDaS DPT-hybrid of transformers, at 384"),
    Variant("depth", "dpt-large", "depth:DPTLargeDepth", "DPT-large of transformers, at 384, a judge"),
    Variant("depth", "controlnet", "depth:MiDaSDepth", "MiDaS DPT-hybrid of controlnet-aux, at 512"),
    Variant("normals", "depth", "normals:DPTNormals", "slopes of depth=dpt, sharing its forward pass"),
    Variant("normals", "controlnet", "normals:MiDaSNormals", "slopes of depth=controlnet, sharing its forward pass"),
    Variant("normals", "bae", "normals:BaeNormals", "NormalBae network"),
    Variant("cartoon", "anime2sketch", "anime2sketch:CartoonLines", "Anime2Sketch network"),
    Variant("cartoon", "lineart", "lineart:Lineart", "ControlNet 1.1's realistic lineart"),
    Variant("cartoon", "lineart-coarse", "lineart:CoarseLineart", "the same, coarse lines"),
    Variant("cartoon", "standard", "lineart_standard:LineartStandard", "blur difference, no weights"),
    Variant("caption", "blip-base", "blip:BaseCaption", "BLIP base, greedy"),
    Variant("caption", "blip-large", "blip:LargeCaption", "BLIP large, greedy"),
    Variant("caption", "blip-base-beams", "blip:BaseBeamCaption", "BLIP base, best of 3 beams"),
    Variant("caption", "blip-large-beams", "blip:LargeBeamCaption", "BLIP large, best of 3 beams"),
)


@dataclass(frozen=True)
class Choice:
    """A condition that a user asked for, as plain values that travel to workers. ``target`` is ``module:Class``.

    ``own_name`` is the name of its table, where that is to have another than the condition's.
    """

    condition: str
    variant: str
    target: str
    params: tuple[tuple[str, Any], ...] = ()
    own_name: str = ""

    @property
    def table(self) -> str:
        """The table that it is stored in."""
        return self.own_name or CONDITIONS[self.condition].table

    def build(self) -> Annotator:
        """The annotator."""
        annotator: Annotator = load_class(self.target)(**dict(self.params))
        return annotator


def load_class(target: str) -> type[Any]:
    """``module:Class`` → the class; a module without dots is one of this package."""
    module, _, name = target.partition(":")
    package = f"{__package__}." if "." not in module else ""
    loaded: type[Any] = getattr(importlib.import_module(package + module), name)
    return loaded


def annotator_class(condition: str, variant: str) -> type[Annotator] | None:
    """The class that made a table, by what its provenance says; None where none here makes such tables."""
    classes = (load_class(known.target) for known in variants_of(condition))
    return next((found for found in classes if found.variant == variant), None)


def stored_choice(table: str, condition: str, variant: str, params: Mapping[str, Any]) -> Choice | None:
    """The choice that makes a table as it was made, by what its provenance says; None where none here does."""
    for known in variants_of(condition):
        if load_class(known.target).variant == variant:
            numbers = re.compile(known.pattern or "").groupindex
            own_name = "" if table == CONDITIONS[condition].table else table
            chosen = tuple((name, params[name]) for name in numbers if name in params)
            choice = Choice(condition, known.name, known.target, chosen, own_name)
            try:
                choice.build()
            except (TypeError, ValueError):  # no parameters of it: the table may come from anybody
                return None
            return choice
    return None


def licence_gates(choices: Iterable[Choice]) -> dict[str, list[str]]:
    """Licences that must be accepted (``--accept-license NAME``) → the choices that need them."""
    needed: dict[str, list[str]] = {}
    for choice in choices:
        gates = {CONDITIONS[choice.condition].licence_gate}
        gates |= {variant.licence_gate for variant in variants_of(choice.condition) if variant.name == choice.variant}
        for gate in sorted(gate for gate in gates if gate):
            needed.setdefault(gate, []).append(f"{choice.condition}={choice.variant}")
    return needed


def check_licences(choices: Sequence[Choice], accepted: Sequence[str]) -> None:
    """Raise MillError where a licence that the choices need is not accepted; every one of them is named.

    So is one that is accepted and that nothing here needs.
    """
    gates = {condition.licence_gate for condition in CONDITIONS.values()} | {one.licence_gate for one in VARIANTS}
    known = sorted(gate for gate in gates if gate)
    if unknown := [name for name in accepted if name not in known]:
        raise MillError(f"--accept-license {', '.join(unknown)}: no weights need it; there are: {', '.join(known)}")
    refused = {gate: names for gate, names in licence_gates(choices).items() if gate not in accepted}
    if refused:
        raise MillError(OWN_LICENCE + "".join(f"\n  {ask}" for ask in asked_for(refused)))


def asked_for(gates: Mapping[str, Sequence[str]]) -> list[str]:
    """How each gate is passed, in a line."""
    return [f"{', '.join(names)}: --accept-license {gate}" for gate, names in gates.items()]


def variants_of(condition: str) -> list[Variant]:
    """Variants of a condition, the default first."""
    return [variant for variant in VARIANTS if variant.condition == condition]


def parse_conditions(text: str) -> list[Choice]:
    """``canny,hough=lsd,safe:hed=safe`` → choices, in that order; ``all`` is every condition in its default variant.

    Raises:
        MillError: unknown, said twice, or malformed; every fault is named at once.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["all"]:
        words = list(CONDITIONS)
    choices, faults = [], []
    for word in words:
        try:
            choices.append(parse_condition(word))
        except (MillError, ValueError) as error:
            faults.append(str(error))
    tables = Counter(choice.table for choice in choices)
    twice = sorted(table for table, times in tables.items() if times > 1)
    faults += [f"{table} is asked for twice; NAME:CONDITION=VARIANT makes a second table" for table in twice]
    if not words:
        faults.append("no condition is named")
    if faults:
        raise MillError("--conditions: " + "\n  ".join(faults))
    return choices


def parse_condition(word: str) -> Choice:
    """``hough=lsd``, or ``NAME:hough=lsd`` for a table with a name of its own → the choice.

    Raises:
        MillError: no such condition or variant, or no name for a table.
        ValueError: bad parameters.
    """
    named, given, value = word.partition("=")
    own_name, colon, name = named.rpartition(":")
    if name not in CONDITIONS:
        raise MillError(f"no condition is called {name!r}; there are: {', '.join(CONDITIONS)}{_meant(word, name)}")
    if colon:
        _check_own_name(own_name, name)
    known = variants_of(name)
    for variant in known:
        match = re.fullmatch(variant.pattern, value) if variant.pattern else None
        same = value == variant.name and not variant.pattern
        if not (match or same or (not given and variant is known[0])):
            continue
        params = tuple((key, int(number)) for key, number in match.groupdict().items()) if match else ()
        choice = Choice(name, variant.name, variant.target, params, own_name)
        choice.build()  # bad parameters show now
        return choice
    raise MillError(f"{name} has no variant {value!r}; there are: {', '.join(v.name for v in known)}")


def _meant(word: str, name: str) -> str:
    """What a word with an unknown condition may be meant as, in words; nothing where no name is near."""
    import difflib  # for a mistake alone

    first, colon, value = word.partition(":")
    if colon and first in CONDITIONS:
        return f"; did you mean {first}={value}?" if value else f"; did you mean {first}?"
    known = {variant.name: f"{variant.condition}={variant.name}" for variant in VARIANTS}
    known |= {own: condition.name for condition in CONDITIONS.values() for own in (condition.table, condition.name)}
    near = difflib.get_close_matches(name.strip().lower(), known, n=1)
    return f"; did you mean {known[near[0]]}?" if near else ""


def _check_own_name(table: str, condition: str) -> None:
    """Raise MillError where a table of a condition cannot be called so."""
    from controlmill.schemas.tables import RESERVED  # with Arrow, which the command line does without

    if CONDITIONS[condition].kind == "text":
        raise MillError(f"{table}:{condition}: captions have one table, from which training takes them")
    if not NAME.fullmatch(table):
        raise MillError(f"{table}:{condition}: a table's name is {NAME_RULE}")
    if table in RESERVED and table != CONDITIONS[condition].table:
        raise MillError(f"{table}:{condition}: {table} is another table's name")
