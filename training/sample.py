"""Pictures for a user: what ``sample`` is asked for, resolved and checked before anything is loaded, and drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from controlmill.annotators.runtime.placement import Placement
from controlmill.bases.base import Facts
from controlmill.bases.registry import read_facts
from controlmill.evaluation.sampling.batches import even_size
from controlmill.evaluation.sampling.captioner import Captioner
from controlmill.evaluation.sampling.prompts import DEFAULT_PROMPT
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.evaluation.sampling.used import UsedControlNet
from controlmill.evaluation.user_pictures import fitted, nearest_shape, picture_size, shape_of, white_region
from controlmill.schemas.errors import MillError

from .run.controlnets import base_of, check_here, find_controlnet
from .run.record import RunRecord
from .sample_maps import MapSource, Variants

if TYPE_CHECKING:
    from .options import SampleOptions

STEPS = SamplingSettings().steps


@dataclass(frozen=True)
class SampleRequest:
    """What is sampled.

    Args:
        base: its name.
        controlnets: what is added, and ``maps`` where the map of each comes from.
        shape: (height, width) of the pictures.
        settings: of the sampler; ``options`` are what a user said.
        captioner: what says automatic prompts; None where none is asked for.
    """

    base: str
    controlnets: tuple[UsedControlNet, ...]
    maps: tuple[MapSource, ...]
    shape: tuple[int, int]
    settings: SamplingSettings
    options: SampleOptions
    captioner: Captioner | None = None


@dataclass(frozen=True)
class SampledPicture:
    """A picture, uint8 (H, W, 3): the ``number``-th that was sampled with a kind of prompt."""

    kind: str
    number: int
    prompt: str
    picture: np.ndarray


def make_request(address: str, options: SampleOptions) -> SampleRequest:
    """Resolve and check everything; no network is loaded.

    Raises:
        MillError: there is no such ControlNet, or it belongs to another base; neither or both of a photo and a map; a
            file that is no picture; a photo that cannot be annotated; sizes that the base does not take.
    """
    check_here(address, [] if options.base or options.add else ["--base"])
    if not (options.image or options.control):
        raise MillError("give --image, a photo to annotate, or --control, a finished map")
    if options.image and options.control and not options.mask:
        raise MillError("give only one of --image and --control")
    for flag, path in _files(options):
        if not path.is_file():
            raise MillError(f"{flag} {path}: no such file")
    found = [find_controlnet(address)]
    found += [find_controlnet(*added) for added in zip(options.add, options.weights_of_added, strict=True)]
    used, records = tuple(one for one, _ in found), [record for _, record in found]
    base = base_of(options.base or "", address, used, records)
    facts = read_facts(base)
    for one, name in zip(used, (address, *options.add), strict=True):
        facts.check_controlnet(one.address, name, one.connection)
    shape = _shape(options, facts, records[0])
    facts.check_sizes([shape])
    variants = Variants.parse(options.variant, options.accept_license)
    maps = [
        MapSource.find(name, record, photo, control, variants, str(options.weights or ""))
        for name, record, (photo, control) in zip((address, *options.add), records, _given(options), strict=True)
    ]
    variants.check_used()
    if options.mask and options.image:
        _check_mask(options.mask, options.image, shape)
    steps = records[0].config.sampling_steps if records[0] else STEPS
    settings = options.settings(steps)
    try:
        settings.check()
    except ValueError as error:
        raise MillError(f"sampling: {error}") from error
    request = SampleRequest(base, used, tuple(maps), shape, settings, options)
    if "auto" not in options.kinds:
        return request
    folder = str(options.weights or "") or (records[0].config.weights if records[0] else "")
    return replace(request, captioner=Captioner.find(folder or None, Placement()))


def draw_maps(request: SampleRequest, device: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each ControlNet (control image, float32 (3, H, W) in 0 to 1; the map as a picture, uint8 (H, W, 3)).

    Raises:
        MillError: a file is no picture, or no such map.
    """
    height, width = request.shape
    return [source.draw((width, height), device) for source in request.maps]


def draw(request: SampleRequest, images: Sequence[np.ndarray], device: str) -> Iterator[SampledPicture]:
    """Sample pictures that follow control images, float32 (3, H, W), one for each ControlNet.

    Raises:
        MillError: something cannot be loaded; the device's memory ran out.
    """
    import torch

    from controlmill.evaluation.sampling.sampler import load_sampler, start_noise

    options, count, (height, width) = request.options, request.options.count, request.shape
    batch = even_size(count, options.batch_size)
    sampler = load_sampler(request.base, request.controlnets, request.settings, device, options.precision, batch)
    noise = start_noise(sampler.base, [(0, i) for i in range(count)], options.seed, height, width)
    controls = [np.repeat(image[None], count, axis=0) for image in images]
    kept = None
    if options.mask and options.image:
        size = width, height
        kept = [fitted(options.image, size)] * count, [white_region(options.mask, size)] * count

    def sampled(prompts: Sequence[str]) -> list[np.ndarray]:
        try:
            return sampler.sample(prompts, controls, noise, *(kept or ()))
        except torch.OutOfMemoryError as error:
            advice = f"--batch-size {batch // 2}, or " if batch > 1 else ""
            raise MillError(f"{device} has too little memory: {advice}--precision bf16, or a smaller --size") from error

    texts = {"none": "", "default": DEFAULT_PROMPT, "user": options.prompt}
    for kind in options.kinds:
        prompts = [texts.get(kind, DEFAULT_PROMPT)] * count
        if kind == "auto":
            assert request.captioner is not None
            captioner = request.captioner.load(Placement(device, "fp32", batch))
            prompts = captioner.captions(sampled(prompts))
        for number, (prompt, picture) in enumerate(zip(prompts, sampled(prompts), strict=True)):
            yield SampledPicture(kind, number, request.settings.whole(prompt), picture)


def _files(options: SampleOptions) -> Iterator[tuple[str, Path]]:
    """Files that are read, by their flags."""
    for flag, path in (("--image", options.image), ("--control", options.control), ("--mask", options.mask)):
        if path is not None:
            yield flag, path
    yield from (("--add-image", Path(text)) for text in options.add_image)
    yield from (("--add-control", Path(text)) for text in options.add_control)


def _given(options: SampleOptions) -> list[tuple[Path | None, Path | None]]:
    """Of each ControlNet (a photo to annotate, a finished map): one of the two."""
    given: list[tuple[Path | None, Path | None]] = [(None if options.control else options.image, options.control)]
    for i in range(len(options.add)):
        if options.add_control:
            given.append((None, Path(options.add_control[i])))
        else:
            given.append((Path(options.add_image[i]) if options.add_image else options.image, None))
    return given


def _shape(options: SampleOptions, facts: Facts, record: RunRecord | None) -> tuple[int, int]:
    """(height, width) of the pictures."""
    given = options.image if options.mask else options.control or options.image
    assert given is not None
    if record and not options.size:
        return nearest_shape(given, record.shapes)
    return shape_of(given, options.size or facts.side, facts.multiple)


def _check_mask(mask: Path, image: Path, shape: tuple[int, int]) -> None:
    sizes = [picture_size(path) for path in (mask, image)]
    if sizes[0] != sizes[1]:
        mine, photo = (f"{width}x{height}" for width, height in sizes)
        raise MillError(f"--mask {mask} is {mine}, --image is {photo}: they must be of one size")
    if not white_region(mask, (shape[1], shape[0])).any():
        raise MillError(f"--mask {mask}: nothing in it is white, so there is nothing to sample")
