"""What evaluate is asked for: its options resolved against the run, the dataset and the protocol, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from controlmill.annotators.runtime.placement import Placement
from controlmill.bases.configuration import pinned_base
from controlmill.bases.registry import read_facts
from controlmill.evaluation.protocols.comparison import Conduct, deviations, published_beside
from controlmill.evaluation.protocols.protocol import Protocol, SelfTest, fitting, read_protocol
from controlmill.evaluation.sampling.captioner import Captioner
from controlmill.evaluation.sampling.prompts import DEFAULT_PROMPT, PROMPT_KINDS
from controlmill.pipelines.engine.machines import Machines
from controlmill.pipelines.evaluation import Evaluation
from controlmill.pipelines.results.listing import ChosenRows, Layout, other_places
from controlmill.pipelines.results.makers import GivenPictures, Maker, SampledPictures
from controlmill.pipelines.results.quality import find_quality
from controlmill.pipelines.results.sampling import Sampling
from controlmill.pipelines.results.summary import Published
from controlmill.pipelines.stages.judge import Judge
from controlmill.pipelines.stages.sample import AUTO
from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.documents import made_of, plain
from controlmill.schemas.fingerprint import fingerprint
from controlmill.schemas.snapshot import Snapshot
from controlmill.schemas.tables import IMAGES
from controlmill.schemas.terminal.options import flag_of
from controlmill.training.data.filters import Filter
from controlmill.training.data.selection import check_tables, segments_named, select
from controlmill.training.run.controlnets import base_of, check_here, find_controlnet, published_name
from controlmill.training.run.record import RunRecord

from .evaluate_judge import find_judge

if TYPE_CHECKING:
    from .evaluate import EvaluateOptions, SamplingOptions

BATCH = 8
TRAINED_ON = "rows that the ControlNet was trained on may be among these: no measure of what it has learned"


@dataclass(frozen=True)
class EvaluateRequest:
    """What is evaluated, and what makes the pictures.

    ``self_test`` is a measure, and whose published value of it is to come out; ``captions`` are rows that have one.
    """

    asked: Evaluation
    maker: Maker
    self_test: tuple[str, str] | None = None
    captions: int = 0

    def messages(self) -> Iterator[str]:
        """What a user is to know before work starts, in lines."""
        rows, layout = self.asked.rows, self.asked.layout
        pictures = len(rows.places) * layout.pictures
        kinds = f"{layout.pictures_per_row} for each of the prompts {', '.join(layout.prompts)}"
        yield f"{self.maker.method}: {pictures:,} pictures for {len(rows.places):,} rows ({rows.text}), {kinds}"
        if self.maker.has_ceiling:
            yield f"for the ceiling, the VAE's version of each row's own picture: {len(rows.places):,}"
        if "user" in layout.prompts and self.captions < len(rows.places):
            yield f"{len(rows.places) - self.captions:,} rows have no caption: their user prompt is the empty one"
        yield from self.asked.judge.messages() if self.asked.judge else ()
        yield from self.asked.quality.messages()


def make_request(
    controlnet: str,
    address: str,
    results: str,
    options: EvaluateOptions,
    sampling: SamplingOptions,
    machines: Machines,
) -> EvaluateRequest:
    """Resolve and check everything; no network is loaded.

    Args:
        controlnet: a user's name for one; empty where there is none, or ``--self-test`` names it.
        address: of the dataset.
        results: where they are to be.
        options: of the command.
        sampling: settings of the sampler that are not to be the protocol's.
        machines: that do the work.

    Raises:
        MillError: the protocol does not fit the condition; the judge has no weights; a table is missing; the base takes
            other sizes; the ControlNet belongs to another base.
    """
    protocol = read_protocol(options.protocol)
    test = _self_test(protocol) if options.self_test else None
    controlnet = controlnet or (test.controlnet if test else "")
    if controlnet:
        said = {"--condition": options.condition or protocol.condition, "--base": options.base or test}
        check_here(controlnet, [flag for flag, value in said.items() if not value])
    used, record = find_controlnet(controlnet) if controlnet else (None, None)
    source = Snapshot(Dataset.open(address))
    table = options.condition or (record.config.condition if record else protocol.condition)
    if not table:
        raise MillError("--condition: say which table has the maps that are followed")
    control = check_tables(source, [table])[table]
    truth = options.truth or table
    true_condition = check_tables(source, [truth])[truth]
    measures = tuple(measure.name for measure in fitting(protocol, true_condition))
    device, _ = machines.settle(options.device, options.precision)
    folder = str(options.weights) if options.weights else None
    quality = find_quality(protocol.measures_of_pictures(), folder, device, protocol.fid_of_groups)
    if not measures and not quality.measures:
        raise MillError(f"protocol {protocol.name} has no measure of {true_condition.name}: name a --truth of another")
    layout = Layout(_prompts(protocol, options), options.pictures_per_row or protocol.pictures_per_row)
    rows, shapes, captions = _rows(source, table, truth, record, controlnet, options)
    judge = find_judge(source, true_condition, results, protocol, options, rows.others, machines) if measures else None
    if sampling.given and (options.pictures or options.self_test):
        whose = "--pictures: another method made them" if options.pictures else "--self-test: the protocol says how"
        raise MillError(f"{whose}, so there is no {flag_of(next(iter(sampling.given)))}")
    settings = sampling.over(protocol.sampling)
    index = source.index(truth)
    assert index is not None
    conduct = Conduct(
        *(None if options.pictures else settings, layout.pictures_per_row, table, truth, index.provenance.made_by),
        *(_made_by(judge), source.corpora, shapes),
    )
    beside = published_beside(protocol, deviations(protocol, conduct))
    trained = record is not None and options.all_rows and _is_dataset_of(source, record)
    notes = dict.fromkeys([*measures, *quality.measures], TRAINED_ON) if trained else {}
    published = Published(beside, notes, protocol.prompts)
    asked = Evaluation(rows, table, truth, layout, protocol.name, judge, measures, quality, published)
    if options.pictures:
        return EvaluateRequest(asked, GivenPictures(options.pictures.name, str(options.pictures)), None, captions)
    assert used is not None
    base = base_of(options.base or (test.base if test and not record else ""), controlnet, (used,), (record,))
    facts = read_facts(base)
    facts.check_sizes(shapes)
    facts.check_controlnet(used.address, controlnet, used.connection)
    used, base = used.pinned(), pinned_base(base)
    place = Placement(device, options.precision, options.batch_size or _begun_with(results) or BATCH)
    sampler = Sampling(base, published_name(base), (used,), settings, place)
    sampler.check()
    speaks = Placement(device, "fp32", place.batch_size)
    captioner = Captioner.find(folder, speaks) if AUTO in layout.prompts else None
    texts: dict[str, str | None] = {"none": "", "default": DEFAULT_PROMPT, AUTO: None}
    maker = SampledPictures(used.name, sampler, control, texts, DEFAULT_PROMPT, captioner)
    return EvaluateRequest(asked, maker, (test.measure, test.method) if test else None, captions)


def _self_test(protocol: Protocol) -> SelfTest:
    if protocol.self_test is None:
        raise MillError(f"--self-test: the protocol {protocol.name} names no published ControlNet")
    return protocol.self_test


def _made_by(judge: Judge | None) -> AnnotatorRecord | None:
    """What a judge's maps will say that made them."""
    outputs = judge.outputs().values() if judge else ()
    return next((made_of(AnnotatorRecord, plain(made.provenance["annotator"])) for made in outputs), None)


def _prompts(protocol: Protocol, options: EvaluateOptions) -> tuple[str, ...]:
    asked = tuple(word.strip() for word in options.prompts.split(",") if word.strip())
    unknown = [word for word in asked if word not in PROMPT_KINDS]
    if unknown or len(set(asked)) < len(asked):
        raise MillError(f"--prompts {options.prompts}: some of {', '.join(PROMPT_KINDS)}, each once")
    prompts = asked or tuple(protocol.prompts)
    if options.pictures and len(prompts) > 1:
        raise MillError("--pictures: say which one kind of prompt they were made with, --prompts user")
    return prompts


def _rows(
    source: Snapshot, table: str, truth: str, record: RunRecord | None, controlnet: str, options: EvaluateOptions
) -> tuple[ChosenRows, list[tuple[int, int]], int]:
    """The rows that are evaluated, ascending, their shapes (height, width), and how many of them have a caption."""
    tables = list(dict.fromkeys((table, truth)))
    own = record is not None and not options.all_rows and _is_dataset_of(source, record)
    if own and record:
        config = record.config
        segments = segments_named(config.segments, source)
        trained = Snapshot(source, segments.stop)
        filters, first = [Filter.parse(text) for text in config.where], source.config.segments[segments[0]].first_shard
        found = select(trained, tables, filters, config.held_out, first_shard=first).held_out
        text = f"held out by {published_name(controlnet)}"
        if not len(found):
            raise MillError(f"{controlnet} held no rows out: --all-rows evaluates those that it was trained on")
    else:
        found, text = select(source, tables).train, "all"
    if options.rows and options.rows < len(found):
        found = found[np.argsort(found["rank"], kind="stable")[: options.rows]]
        text = f"{options.rows} of {text}" if own else f"{options.rows} of all"
    found = np.sort(found, order=["shard", "row"])
    shapes = [(int(height), int(width)) for height, width in found[["height", "width"]].tolist()]
    places = [(int(shard), int(row)) for shard, row in found[["shard", "row"]].tolist()]
    chosen = ChosenRows(source, places, text, other_places(places, shapes))
    return chosen, sorted(set(shapes)), int((found["caption"] != 0).sum())


def _is_dataset_of(source: Snapshot, record: RunRecord) -> bool:
    """Whether a run was trained on a dataset, which may have grown since."""
    segments = segments_named(record.config.segments, source) if _has_segments(source, record) else range(0)
    index = Snapshot(source, segments.stop).index(IMAGES) if segments else None
    return index is not None and fingerprint(index.digests) == record.digests.get(IMAGES)


def _has_segments(source: Snapshot, record: RunRecord) -> bool:
    last = record.config.segments.partition("..")[2] or record.config.segments or "0"
    return int(last) < len(source.config.segments)


def _begun_with(results: str) -> int:
    """The batch that results were begun with, or 0."""
    if not open_storage(results).exists("dataset.json"):
        return 0
    made = Dataset.open(results).begun_with(IMAGES)
    samples = made.samples if made else None
    return samples.sampler.placement.batch_size if samples and samples.sampler else 0
