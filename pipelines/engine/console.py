"""A job from the console's side: what is left to do, a process that does it, and what came of it.

Whatever an engine reports, what counts is what is committed: it is compared with the shard list in the end.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Interrupted, MillError
from controlmill.schemas.terminal.console import output
from controlmill.schemas.views import card

from .mend import clear_aside, switch
from .messages import ENGINE_FAILED, TOLD, Engine
from .owners import also_made, sweep
from .process import JobProcess, Resources
from .progress import Progress
from .reach import gone
from .run_folder import Run, ShardFailure
from .shards import Job
from .stage import Output, Stage
from .watch import NothingMoves, Watch

MAX_DEATHS = 5  # of the job's process, without a single commit between them
GRACE_SECONDS = 30
GO_ON = "What is committed stays: run the same command again to go on."


def run_stage(
    dataset: Dataset,
    stage: Stage,
    resources: Resources,
    rows_of_shard: list[int],
    shards: Collection[int] | None = None,
) -> None:
    """Do what a stage has left to do, commit by commit, and finish its tables.

    What is committed is taken as it is: whoever calls has looked at it (:func:`mend.check_committed`).

    Args:
        dataset: where; of its ``redone`` tables the new ones are made, and take the old ones' places.
        stage: what.
        resources: with what.
        rows_of_shard: rows that each shard takes in, for progress.
        shards: what is to be done; None: all shards.

    Raises:
        MillError: something could not be done. What was committed stays, and the same command goes on from there.
        Interrupted: by Ctrl-C.
    """
    sweep(dataset.storage)
    outputs = stage.outputs()
    committed = {table: dataset.committed(table) for table in outputs}
    done = set.intersection(*committed.values())
    todo = sorted(set(range(dataset.shards) if shards is None else shards) - done)
    failures = _do(dataset, stage, outputs, resources, rows_of_shard, committed, todo) if todo else []
    fault = _account(dataset, todo, outputs, failures, resources.process.engine)
    finish_tables(dataset, {table: set(todo) - shards for table, shards in committed.items()})
    if fault:
        raise fault


def finish_tables(dataset: Dataset, made: Mapping[str, Collection[int]]) -> None:
    """Write the indexes of tables whose shards are all there, put what was made anew in its place, write the card.

    ``made`` are the shards of each table that were just made.
    """
    whole = set()
    for table, new in made.items():
        index, lacking = dataset.whole_index(table), set(range(dataset.shards)) - dataset.committed(table)
        if lacking:
            continue
        if index is None or new:
            dataset.finish(table, changed=new)
        clear_aside(dataset, table)
        whole.add(table)
    redone = dataset.redone.intersection(whole)
    if redone:
        switch(dataset, ["images"] if "images" in redone else sorted(redone))
    card.write(Dataset.open(dataset.storage.address))


def _do(
    dataset: Dataset,
    stage: Stage,
    outputs: Mapping[str, Output],
    resources: Resources,
    rows_of_shard: list[int],
    committed: Mapping[str, set[int]],
    todo: list[int],
) -> list[ShardFailure]:
    """Have shards done; what failed."""
    for other in also_made(dataset.storage, outputs):
        output.say(
            f"note: another command makes {other} of this dataset too: the first to do a shard keeps it, and what the "
            "other does of it is lost; stop one of them, unless that is what you want"
        )
    threads, in_flight = resources.codec_threads(), resources.in_flight(stage)
    with _terminable():
        run = Run.start(dataset.storage, outputs)
        job = Job(dataset.storage, run.id, stage, outputs, threads, in_flight, dataset.redone)
        try:
            signs = run.giving_signs() if resources.process.engine.elsewhere else nullcontext()
            with Progress(dataset, stage.name, rows_of_shard, committed, run) as progress, signs:
                _supervise(job, run, todo, resources.process, progress)
            return run.failures()
        except FileNotFoundError:
            dataset.storage.require()
            raise
        except OSError as error:
            if dataset.storage.local:
                raise
            raise MillError(f"{error.strerror or error}\n{GO_ON}") from error
        finally:
            run.end()


def _account(
    dataset: Dataset, todo: list[int], tables: Iterable[str], failures: list[ShardFailure], engine: Engine
) -> MillError | None:
    """Compare what is committed with the shard list: shards failed, or an engine lost work without a word."""
    if failures:
        shown = "\n  ".join(map(str, failures[:10]))
        more = f"\n  and {len(failures) - 10} more" if len(failures) > 10 else ""
        return MillError(f"{len(failures)} of {dataset.shards} shards could not be done:\n  {shown}{more}\n{GO_ON}")
    for table in tables:
        lost = sorted(set(todo) - dataset.committed(table))
        if lost:
            return MillError(
                f"the engine ended without an error, but {len(lost)} of {dataset.shards} shards of {table} are not "
                f"committed (the first is {lost[0]}).{gone(engine)}\n{GO_ON}"
            )
    return None


def _supervise(job: Job, run: Run, todo: list[int], process: JobProcess, progress: Progress) -> None:
    """Have the job done; a process that dies is started again while it gets somewhere."""
    deaths = 0
    while True:
        before = progress.files
        try:
            status = process.run(job, todo, _waiting(process.engine, job, progress))
        except NothingMoves as error:
            run.stop("nothing moved")
            process.end()
            raise MillError(f"{error}\n{GO_ON}") from error
        except KeyboardInterrupt:
            progress.say("stopping after the rows at hand (press Ctrl-C again to stop at once)")
            run.stop("stopped by request")
            process.end(GRACE_SECONDS)
            raise Interrupted(f"Stopped. {GO_ON}") from None
        job.storage.require()
        why = run.stopped()
        if why:
            raise MillError(f"{why}\n{GO_ON}")
        if status == 0:
            return
        failed = f"{process.engine.title} failed"
        if status == TOLD:
            raise MillError(f"{process.answer or process.told(failed)}\n{GO_ON}")
        if status == ENGINE_FAILED:
            raise MillError(f"{process.told(failed)}\n{GO_ON}")
        deaths = 1 if progress.files > before else deaths + 1
        if deaths >= MAX_DEATHS:
            died = f"the job's process died {deaths} times in a row without a commit (exit status {status})"
            raise MillError(f"{process.told(died)}\n{GO_ON}")
        progress.say(f"the job's process died (exit status {status}); starting it again, with more care")


def _waiting(engine: Engine, job: Job, progress: Progress) -> Callable[[], None]:
    """What is done while a job runs: progress is shown, and workers elsewhere are watched."""
    if not engine.elsewhere:
        return progress.update
    watch = Watch(engine, job.storage.local, progress.say)

    def wait() -> None:
        progress.update()
        watch.look(progress.files, progress.attempts)

    return wait


@contextmanager
def _terminable() -> Iterator[None]:
    """A signal to terminate stops the job like Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
