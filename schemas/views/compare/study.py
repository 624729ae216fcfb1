"""A blind study: people rank the pictures of several results, whose names the page does not have.

``OUT/page`` goes to the participants. ``OUT/key.json`` says which picture is whose and stays behind; the files that
participants save go to ``OUT/answers``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from ...bounds import Count, Word
from ...dataset import Dataset
from ...errors import MillError
from ...files.documents import FORBID, plain
from ...files.whole import write_whole
from ...fingerprint import canonical, fingerprint
from ...images.codecs import decode_image, encode_map
from ...tables import IMAGES
from ..lookup import rows_at
from .build import NO_PICTURE, stored_bytes
from .folder import PageFolder, new_folder
from .results import Result, Slot, rows_of, slots_of

STUDY_VERSION = 1
KEY, ANSWERS = "key.json", "answers"
MOST = 9  # methods: people rank no more at once, and each has a letter
Token = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


@dataclass(frozen=True)
class Criterion:
    """What pictures are ranked by; with ``given``, the map is shown beside them."""

    name: str
    question: str
    given: bool


CRITERIA = (
    Criterion("quality", "How good does each picture look?", False),
    Criterion("fidelity", "How well does each picture follow the map?", True),
)


@dataclass(frozen=True)
class QuestionRecord:
    """A question of a study: for which picture of which row, and whose each picture is, by its token."""

    __pydantic_config__ = FORBID

    shard: Count
    row: Count
    prompt_kind: Word
    sample: Count
    pictures: dict[Token, str]


@dataclass(frozen=True)
class KeyRecord:
    """``key.json``: what resolves the answers of a study. ``methods`` are the results' names."""

    __pydantic_config__ = FORBID

    version: Count
    study: Token
    methods: tuple[str, ...]
    criteria: tuple[Word, ...]
    questions: tuple[QuestionRecord, ...]


def make_study(results: Sequence[Result], source: Dataset, out: str, questions: int, kind: str, seed: int) -> KeyRecord:
    """Write the page and the key of a study.

    Args:
        results: of ``source``, whose pictures are ranked.
        source: has the maps.
        out: a folder that is not there or is empty.
        questions: how many rows are drawn, one picture of each.
        kind: of the prompts; "": the first that all results have.
        seed: of the draw of the rows.

    Raises:
        MillError: the results cannot be ranked against each other, or ``out`` holds something.
    """
    control = _control(results)
    slots = chosen_slots([slots_of(result) for result in results], kind or _kind(results), questions, seed)
    numbers = {slot: number for number, slot in enumerate(slots)}
    whose: list[dict[str, str]] = [{} for _ in slots]
    files: list[list[list[str]]] = [[] for _ in slots]
    prompts: list[set[str]] = [set() for _ in slots]
    with new_folder(out, may_replace=False) as root:
        folder = PageFolder(root.root / "page")
        for result in results:
            for slot, row in rows_of(result, {IMAGES: ["image", "caption"]}):
                number = numbers.get(slot)
                if number is None:
                    continue
                token = secrets.token_hex(8)
                try:
                    name = folder.save_picture(token, blind(stored_bytes(row[IMAGES]["image"])))
                except ValueError as error:
                    where = f"{result.name}: a picture of shard {slot.shard}, row {slot.row}"
                    raise MillError(f"{where} {NO_PICTURE}: {error}") from error
                assert name is not None
                whose[number][token] = result.name
                files[number].append([token, name])
                prompts[number].add(row[IMAGES]["caption"] or "")
        asked: list[dict[str, Any]] = []
        wide = 0
        for number, row in enumerate(rows_at(source, {IMAGES: ["width"], control: ["map"]}, [s.place for s in slots])):
            given = folder.save_picture(secrets.token_hex(8), stored_bytes(row[control]["map"]))
            wide = max(wide, row[IMAGES]["width"])
            prompt = prompts[number].pop() if len(prompts[number]) == 1 else ""
            asked.append({"prompt": prompt, "given": given, "pictures": sorted(files[number])})
        key = KeyRecord(
            STUDY_VERSION,
            secrets.token_hex(8),
            tuple(result.name for result in results),
            tuple(criterion.name for criterion in CRITERIA),
            tuple(QuestionRecord(*slot, pictures) for slot, pictures in zip(slots, whose, strict=True)),
        )
        criteria = [vars(criterion) for criterion in CRITERIA]
        data = {"study": key.study, "criteria": criteria, "questions": asked, "width": wide}
        folder.save_page("study", "Picture study", data)
        write_whole(root.root / KEY, (canonical(plain(key)) + "\n").encode())
        (root.root / ANSWERS).mkdir()
    return key


def blind(picture: bytes) -> bytes:
    """The pixels of a stored picture as a PNG: its own file's format, or what is written in it, may tell whose it is.

    Raises:
        ValueError: it is no picture.
    """
    return encode_map("rgb", decode_image(picture))


def chosen_slots(slots: Sequence[set[Slot]], kind: str, count: int, seed: int) -> list[Slot]:
    """Pictures that every result has, of ``count`` rows drawn by ``seed``, one of each row; ascending.

    Raises:
        MillError: there are fewer.
    """
    first: dict[tuple[int, int], Slot] = {}
    for slot in sorted(set.intersection(*slots)):
        if slot.prompt_kind == kind:
            first.setdefault(slot.place, slot)
    if len(first) < count:
        raise MillError(
            f"all results have pictures of {len(first):,} rows with prompts {kind}: --questions {count} are too many"
        )
    drawn = sorted(first.values(), key=lambda slot: fingerprint([seed, *slot]))
    return sorted(drawn[:count])


def _kind(results: Sequence[Result]) -> str:
    shared = [kind for kind in results[0].record.prompt_kinds if all(kind in r.record.prompt_kinds for r in results)]
    if not shared:
        raise MillError("the results have no kind of prompt in common")
    return shared[0]


def _control(results: Sequence[Result]) -> str:
    """The table of maps that all results were given."""
    if not 2 <= len(results) <= MOST:
        raise MillError(f"a study ranks the pictures of 2 to {MOST} results, not of {len(results)}")
    tables = dict.fromkeys(result.record.control for result in results)
    if len(tables) > 1:
        raise MillError(f"the results follow different maps ({', '.join(tables)}): make a study of each")
    return next(iter(tables))
