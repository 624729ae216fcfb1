"""In what results that are compared differ beside their method: a difference of numbers may be due to that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...annotator_records import AnnotatorRecord
from ...result_records import SamplesRecord
from ...tables import IMAGES, SCORES
from .results import Result, Slot

ELSEWHERE = "by another program"
SHORT = 8  # digits of a fingerprint that are shown


def differing(results: Sequence[Result], slots: Sequence[set[Slot]]) -> list[str]:
    """Lines, each of one thing and what it is of each result: rows, protocol, sampling, judge, true maps.

    Args:
        results: of one source dataset.
        slots: the pictures of each.
    """
    known = [_known(result) for result in results]
    lines = list(_rows(results, slots))
    for name in dict.fromkeys(name for one in known for name in one):
        said: dict[str, list[str]] = {}
        for result, one in zip(results, known, strict=True):
            if name in one:
                said.setdefault(one[name], []).append(result.name)
        if len(said) > 1:
            lines.append(f"{name}: " + "; ".join(f"{value} ({', '.join(names)})" for value, names in said.items()))
    return lines


def _rows(results: Sequence[Result], slots: Sequence[set[Slot]]) -> Iterator[str]:
    places = [{slot.place for slot in those} for those in slots]
    if len(set(map(frozenset, places))) > 1:
        counts = ", ".join(f"{len(those):,} ({result.name})" for result, those in zip(results, places, strict=True))
        shared = len(set.intersection(*places))
        yield f"rows with pictures: {counts}; {shared:,} are the same, and each value is of its own result's"


def _known(result: Result) -> Mapping[str, str]:
    """What decides a result's numbers beside its ControlNet, in words."""
    record, index = result.record, result.dataset.index(IMAGES)
    samples = index.provenance.samples if index else None
    found = {
        "protocol": record.protocol,
        "kinds of prompts": ", ".join(record.prompt_kinds),
        "pictures a row": str(record.pictures_per_row),
        **(_sampled(samples) if samples else {}),
    }
    if record.judged:
        judged, scores = result.dataset.index(record.judged), result.dataset.index(SCORES)
        scored = scores.provenance.scored if scores else None
        found["true maps"] = _table(record.truth, scored.truth_sha256 if scored else "")
        found["judge"] = _annotator(judged.provenance.made_by) if judged else ""
        found["version of the measures"] = str(scored.version if scored else "")
    return found


def _sampled(samples: SamplesRecord) -> dict[str, str]:
    found = {"maps that are followed": _table(samples.condition, samples.condition_sha256)}
    sampler = samples.sampler
    if sampler is None:
        return {**found, "sampled": ELSEWHERE}
    settings = {name.replace("_", " "): _value(value) for name, value in sorted(sampler.settings.items())}
    base = f"{sampler.base} ({sampler.base_sha256[:SHORT]})"
    return {**found, "sampled": "here", "base": base, "number format": sampler.placement.dtype, **settings}


def _value(value: Any) -> str:
    return f"“{value}”" if isinstance(value, str) and (not value or " " in value) else str(value)


def _table(name: str, sha256: str) -> str:
    return f"{name} ({sha256[:SHORT]})"


def _annotator(record: AnnotatorRecord) -> str:
    """Variant, version and parameters, and the weights of its network."""
    params = "".join(f", {name} {value}" for name, value in sorted((record.params or {}).items()))
    weights = [one.sha256[:SHORT] for one in record.network.weights] if record.network else []
    of = f", weights {' '.join(weights)}" if weights else ""
    return f"{record.condition}={record.variant} version {record.version}{params}{of}"
