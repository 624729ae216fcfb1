"""Results datasets for tests, written without sampling: the source's pictures with noise, and scores as given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.fingerprint import row_key, sha256_bytes
from controlmill.schemas.images.codecs import decode_image, encode_map
from controlmill.schemas.provenance import IngestRecord, LimitsRecord, Provenance
from controlmill.schemas.result_records import SamplerRecord, SamplesRecord, ScoredRecord
from controlmill.schemas.results import (
    RESULT_COLUMNS,
    RESULTS,
    RESULTS_VERSION,
    MeasureRecord,
    PublishedRecord,
    ResultsRecord,
    ValueRecord,
)
from controlmill.schemas.segments import Segment
from controlmill.schemas.tables import IMAGES, SCORES, condition_schema, images_schema, scores_schema
from controlmill.schemas.views.lookup import rows_at
from tests.helpers import begun, places

SHA = "0" * 64
KINDS = ("none", "user")
INGEST = IngestRecord(1, 128, "none", LimitsRecord(1_000_000, 1_000_000, 1), None, dict(RESULT_COLUMNS))
PUBLISHED = PublishedRecord("ControlNet", 0.3465, "ControlNet++, Table 1", 0.01, "not comparable: another judge")
Score = Callable[[int, str], float | None]  # row, prompt kind


def write_results(
    folder: Path,
    source: Path,
    score: Score,
    prompts: Callable[[int], str] = lambda row: f"scene {row}",
    kinds: Sequence[str] = KINDS,
    repeat: int = 1,
    is_judged: bool = True,
    sampler: SamplerRecord | None = None,
    most: int | None = None,
) -> Path:
    """Results with ``f1`` of ``score``, ``rmse`` of 1 - ``score``, and ``fid``, which no single picture has.

    Args:
        folder: to write to.
        source: the dataset; its maps stand for the judge's.
        score: of a row and kind of prompt; None: it could not be scored.
        prompts: of each row.
        kinds: of prompts.
        repeat: pictures a row and kind.
        is_judged: whether there are a judge's maps and scores.
        sampler: that the pictures are said to be from.
        most: source rows, the first ones; None: all.
    """
    opened, at = Dataset.open(source), places(source)[:most]
    stored = list(rows_at(opened, {IMAGES: ["image", "width", "height", "source"], "canny": ["map"]}, at))
    images, maps, scores = [], [], []
    for number, (place, row) in enumerate(zip(at, stored, strict=True)):
        for kind in kinds:
            for sample in range(repeat):
                image, value = row[IMAGES], score(number, kind)
                noise = np.random.default_rng(number).integers(0, 60, (image["height"], image["width"], 3), np.uint8)
                data = encode_map("rgb", decode_image(image["image"]["bytes"]) // 2 + noise)
                key = row_key(f"{kind}/{image['source']}_{sample}", sha256_bytes(data))
                images.append(_image(key, image, data, prompts(number) if kind == "user" else "", kind, place, sample))
                maps.append({"key": key, "map": row["canny"]["map"], "coverage": 0.1})
                fault = {"reason": "failed", "error": "<b>no map</b>"} if value is None else {}
                scores.append({"key": key, "f1": value, "rmse": None if value is None else 1 - value, **fault})
    sha256 = opened.sha256(IMAGES)
    results = begun(Dataset.create(folder, INGEST), "test")
    results.append([Segment(0, 1, len(images), len(images), "samples")], [str(source)])
    samples = SamplesRecord(sha256, "canny", SHA, "short", tuple(kinds), repeat, sampler)
    found = ScoredRecord(1, ("f1", "rmse"), "canny", SHA, "canny", SHA, {})
    made = opened.index("canny")
    assert made is not None
    tables = (
        (IMAGES, images_schema(dict(RESULT_COLUMNS)), Provenance(IMAGES, IMAGES, INGEST, samples=samples), images),
        ("canny", condition_schema(opened.condition("canny"), {}), made.provenance.shared, maps),
        (SCORES, scores_schema(("f1", "rmse")), Provenance(SCORES, SCORES, scored=found), scores),
    )
    for table, schema, provenance, rows in tables if is_judged else tables[:1]:
        digest = None if table == IMAGES else _file_sha256(folder)
        whole = {**provenance.__dict__, "images_sha256": digest}
        with results.committing("test", table, 0, schema, Provenance(**whole)) as writer:
            for start in range(0, len(rows), 64):
                writer.write_group(rows[start : start + 64])
        results.finish(table)
    record = _record(folder.name, sha256, score, kinds, len(at), repeat)
    if not is_judged:
        record = replace(record, judged=None, measures=record.measures[2:])
    results.storage.write_json(RESULTS, record)
    return folder


def _image(
    key: str, image: dict, data: bytes, prompt: str, kind: str, place: tuple[int, int], sample: int
) -> dict[str, object]:
    size = {"width": image["width"], "height": image["height"]}
    of = {"of_shard": place[0], "of_row": place[1], "sample": sample, "prompt_kind": kind}
    return {"key": key, "source": key, "image": {"bytes": data, "path": f"{key}.png"}, **size, "caption": prompt, **of}


def _record(name: str, sha256: str, score: Score, kinds: Sequence[str], rows: int, repeat: int) -> ResultsRecord:
    def values(turn: Callable[[float], float]) -> tuple[ValueRecord, ...]:
        found = []
        for kind in kinds:
            known = [turn(value) for row in range(rows) if (value := score(row, kind)) is not None]
            mean = sum(known) / len(known)
            found.append(ValueRecord(kind, rows, mean, mean - 0.03, mean + 0.03, chance=turn(0.1), ceiling=turn(0.95)))
        return tuple(found)

    measures = (
        MeasureRecord("f1", False, values(lambda value: value), "f1", (PUBLISHED,), "judge and annotator are the same"),
        MeasureRecord("rmse", True, values(lambda value: 1 - value), "rmse"),
        MeasureRecord("fid", True, (ValueRecord(kinds[0], rows, 15.27),)),
    )
    return ResultsRecord(
        RESULTS_VERSION, f"runs/{name}", "short", sha256, "canny", "canny", "canny", repeat, tuple(kinds), measures
    )


def _file_sha256(folder: Path) -> str:
    index = Dataset.open(folder).index(IMAGES)
    assert index is not None
    return index.digests[0]
