"""What the answers of a study come to: each method's average ranking, as the ControlNet paper's Table 1 gives it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ...bounds import Count, Word
from ...errors import MillError
from ...files.documents import FORBID, damaged, read_as
from .study import KEY, STUDY_VERSION, KeyRecord, Token


@dataclass(frozen=True)
class AnswerRecord:
    """One ranking: the pictures of a question by their tokens, the best first."""

    __pydantic_config__ = FORBID

    question: Count
    criterion: Word
    ranking: tuple[Token, ...]


@dataclass(frozen=True)
class AnswersRecord:
    """The file that the page of a study saves. ``participant`` is drawn, ``name`` is what the participant wrote."""

    __pydantic_config__ = FORBID

    version: Count
    study: Token
    participant: Token
    name: Annotated[str, Field(max_length=200)]
    answers: tuple[AnswerRecord, ...]


@dataclass(frozen=True)
class AverageRanking:
    """A method by a criterion: with n methods, n is the best rank and 1 the worst, as in the paper.

    Args:
        method: the result's name.
        criterion: what was ranked by.
        average: over participants, of each one's average.
        deviation: standard deviation of participants' averages; None: there is one participant. The paper does not
            say what its ± is of.
        participants: who ranked by this criterion.
        rankings: of all of them.
    """

    method: str
    criterion: str
    average: float
    deviation: float | None
    participants: int
    rankings: int


def read_key(answers: Sequence[Path], key: Path | None) -> KeyRecord:
    """The key of a study; None: the one beside the folder of the first answers.

    Raises:
        MillError: it is not there, or damaged; or one of the answers is not there.
    """
    if absent := [path for path in answers if not path.is_file()]:
        raise MillError(f"{absent[0]}: no such file of answers")
    path = key or answers[0].absolute().parent.parent / KEY
    try:
        found = read_as(KeyRecord, path)
    except FileNotFoundError as error:
        raise MillError(f"{path} is not there: name the study's {KEY} by --key") from error
    except ValueError as error:
        raise damaged(str(path), error) from error
    if found.version != STUDY_VERSION:
        raise MillError(f"{path} is of version {found.version}, not {STUDY_VERSION}")
    return found


def read_answers(paths: Sequence[Path], key: KeyRecord) -> tuple[list[AnswersRecord], list[Path]]:
    """The answers of each participant, and files that another of the same participant goes beyond.

    Raises:
        MillError: a file is damaged, of another study, or has an answer that is no ranking of its question.
    """
    taken: dict[str, tuple[Path, AnswersRecord]] = {}
    left: list[Path] = []
    for path in paths:
        try:
            found = read_as(AnswersRecord, path)
        except ValueError as error:
            raise damaged(str(path), error) from error
        _check(path, found, key)
        before = taken.get(found.participant)
        if before and len(before[1].answers) >= len(found.answers):
            left.append(path)
            continue
        if before:
            left.append(before[0])
        taken[found.participant] = path, found
    return [found for _, found in taken.values()], left


def _check(path: Path, found: AnswersRecord, key: KeyRecord) -> None:
    if found.version != STUDY_VERSION:
        raise MillError(f"{path} is of version {found.version}, not {STUDY_VERSION}")
    if found.study != key.study:
        raise MillError(f"{path} has answers of another study ({found.study}, not {key.study})")
    asked = set()
    for answer in found.answers:
        question = key.questions[answer.question] if answer.question < len(key.questions) else None
        if question is None or answer.criterion not in key.criteria:
            raise MillError(f"{path}: question {answer.question} by {answer.criterion} is not in the study")
        if sorted(answer.ranking) != sorted(question.pictures):
            raise MillError(f"{path}: the answer to question {answer.question} does not rank its pictures once each")
        asked.add((answer.question, answer.criterion))
    if len(asked) != len(found.answers):
        raise MillError(f"{path}: a question is answered twice")


def average_rankings(answers: Sequence[AnswersRecord], key: KeyRecord) -> list[AverageRanking]:
    """Of each criterion and method, in the order of the key; nothing of a criterion that nobody ranked by."""
    ranks: dict[tuple[str, str], list[list[int]]] = defaultdict(list)  # of each participant
    for found in answers:
        mine: dict[tuple[str, str], list[int]] = defaultdict(list)
        for answer in found.answers:
            whose = key.questions[answer.question].pictures
            for place, token in enumerate(answer.ranking):
                mine[answer.criterion, whose[token]].append(len(answer.ranking) - place)
        for about, values in mine.items():
            ranks[about].append(values)
    rows = []
    for criterion in key.criteria:
        for method in key.methods:
            averages = [statistics.fmean(values) for values in ranks[criterion, method]]
            if averages:
                deviation = statistics.stdev(averages) if len(averages) > 1 else None
                count = sum(len(values) for values in ranks[criterion, method])
                mean = statistics.fmean(averages)
                rows.append(AverageRanking(method, criterion, mean, deviation, len(averages), count))
    return rows
