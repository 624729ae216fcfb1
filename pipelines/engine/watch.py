"""Whether anybody works on a job that runs elsewhere: seen from what is committed and what attempts note.

Engines wait without a word, some of them for ever, for workers that never come or never come back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from controlmill.schemas.errors import MillError

from .attempts import NOTE_SECONDS
from .messages import Engine
from .reach import gone
from .silence import Silence

NOTES = 4  # that an attempt must have left out before it counts as silent
NAMED = 5  # attempts in a message
LOOK_AT = {
    "dask": "does it have workers? `controlmill cluster status {address}` shows them",
    "flink": "has it free task slots, and can its TaskManagers start controlmill-worker? http://{address} shows them",
    "spark": "has it free cores, and can its workers start controlmill-worker? The master's page shows them",
    "": "has it free workers, and can they start? Look at its own page and logs",
}


class NothingMoves(MillError):
    """Nobody works on the job, as far as can be seen."""


class Watch:
    """Looks at a job now and then, says when nothing moves, and ends what nobody works on.

    Args:
        engine: what runs the job; its ``waits`` say how long is too long.
        local: whether the dataset is in a folder, where attempts note more often than on a store.
        say: shows a line to the user.
        clock: seconds that do not go back.
    """

    def __init__(
        self, engine: Engine, local: bool, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ):
        self._engine, self._say, self._clock = engine, say, clock
        self._silence, self._started_with = Silence(), -1
        self._patience = max(engine.waits.silence, NOTES * NOTE_SECONDS[local])
        self._said_at = 0.0  # seconds of silence when something was said or tried last; 0: it is new
        self._last: dict[int, str] = {}

    def look(self, commits: int, attempts: Mapping[int, Mapping[str, Any]]) -> None:
        """Take in how many files are committed, and what the attempts under way note.

        Raises:
            NothingMoves: for too long, or the cluster cannot be reached any more.
        """
        if self._started_with < 0:
            self._started_with = commits
        quiet = self._silence.seconds((commits, attempts), self._clock())
        if not quiet:
            self._said_at = 0.0
        if attempts:
            self._last = {shard: str(said.get("worker", "")) for shard, said in attempts.items()}
        begun = bool(self._last) or commits > self._started_with
        patience = self._patience if begun else self._engine.waits.first_shard
        give_up = self._engine.waits.give_up or math.inf
        if quiet < max(patience, min(self._said_at + patience, give_up)):
            return
        lost = gone(self._engine)
        if lost:
            raise NothingMoves(f"{self._told(begun, quiet)}{lost}")
        if quiet >= give_up:
            raise NothingMoves(f"{self._told(begun, quiet)}\nThe job waited as long as --give-up-after says")
        if not self._said_at:
            self._say(self._told(begun, quiet))
        self._said_at = quiet

    def _told(self, begun: bool, quiet: float) -> str:
        title, cluster = self._engine.title, self._engine.cluster
        look_at = LOOK_AT[cluster.kind if cluster else ""].format(address=cluster.netloc if cluster else "")
        if not begun:
            return f"{title}: no worker has begun a shard after {quiet:.0f} s: {look_at}"
        workers = [f"shard {shard} by {worker}" for shard, worker in sorted(self._last.items()) if worker]
        more = f" and {len(workers) - NAMED} more" if len(workers) > NAMED else ""
        whose = f" ({', '.join(workers[:NAMED])}{more})" if workers else ""
        return f"{title}: no worker has given a sign for {quiet:.0f} s{whose}: {look_at}"
