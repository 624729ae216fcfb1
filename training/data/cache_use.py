"""Which caches of a dataset a run may use, and why not the others; and a step's latents from cached moments.

A cache is used when it was made from these images and captions by encoders equal to the base's, weight by weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.tables import CACHES, EMBEDDINGS, LATENTS

if TYPE_CHECKING:
    from controlmill.bases.base import Facts

    from ..config import TrainConfig

WITHOUT = "--caches off trains without it"
AGAIN = "controlmill encode … --overwrite"


@dataclass(frozen=True)
class Caches:
    """What is read instead of encoded.

    By table: ``stored`` is the dtype, ``arrays`` are the names of what a row has, ``unused`` is the reason.
    """

    stored: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mirrored: bool = False
    unused: dict[str, str] = field(default_factory=dict)

    @property
    def latents(self) -> bool:
        """Whether moments are read, and pictures are not."""
        return LATENTS in self.stored

    @property
    def text(self) -> bool:
        """Whether embeddings are read."""
        return EMBEDDINGS in self.stored

    @property
    def tables(self) -> list[str]:
        """The tables that are used."""
        return [table for table in CACHES if table in self.stored]

    def said(self) -> str:
        """One line for people; empty where the dataset has no caches."""
        used = f"caches: {' and '.join(self.tables)} are used" if self.stored else ""
        if self.latents:
            used += ": a step decodes and encodes no picture"
        unused = [f"{table} not used: {why}" for table, why in self.unused.items()]
        return "; ".join([*([used] if used else []), *unused])


NONE = Caches()


def find_caches(dataset: Dataset, config: TrainConfig, facts: Facts, wanted: Sequence[str] | None) -> Caches:
    """The caches that fit.

    Args:
        dataset: where they are.
        config: whether they are to be used, the base, crop and mirror.
        facts: of the base.
        wanted: what a run that goes on began with: just these are used. None: what fits.

    Raises:
        MillError: a cache was made for a base of other sizes; it cannot serve ``--crop-size`` or ``--random-flip``;
            or one that the run began with cannot be used now.
    """
    if config.caches == "off":
        return NONE
    stored: dict[str, str] = {}
    unused: dict[str, str] = {}
    mirrored = False
    for table in CACHES if wanted is None else wanted:
        if table not in dataset.tables():
            if wanted is not None:
                unused[table] = "it is gone"
            continue
        state = dataset.state(table)
        if state.index is None:
            unused[table] = f"it is {state.status}; run the encode command again to go on with it"
            continue
        made = state.index.provenance
        reason = _misfit(dataset, state.status, made) or _check(table, made, config, facts)
        if reason:
            unused[table] = f"{reason} ({AGAIN} {table} makes it anew)"
            continue
        stored[table] = made.encoded_by.stored
        mirrored = mirrored or bool(made.mirrored)
    if wanted is not None and unused:
        lines = "".join(f"\n  {table}: {why}" for table, why in unused.items())
        raise MillError(f"the run began with caches that cannot be used now:{lines}")
    return Caches(stored, {table: facts.encoders[table].arrays for table in stored}, mirrored, unused)


def _misfit(dataset: Dataset, status: str, made: Provenance) -> str:
    """Why a finished cache is not of these images and captions; empty where it is."""
    if status == "stale":
        return "it was made from other images or captions than are there now"
    if made.captions and made.captions.table != dataset.captions().table:
        return "it was made from other captions than are there now"
    return ""


def _check(table: str, made: Provenance, config: TrainConfig, facts: Facts) -> str:
    """Why a cache is of another base of the same sizes; empty where it is of this one.

    What is wrong whatever the weights is found before any is loaded.
    """
    encoder, base = made.encoded_by, f"the base {config.base}"
    wanted = facts.cache_sizes(table)
    wrong = [name for name, size in wanted.items() if getattr(encoder, name) != size]
    if wrong:
        sizes = ", ".join(f"{name} {getattr(encoder, name)} instead of {wanted[name]}" for name in wrong)
        text = "" if table == LATENTS else " --text"
        raise MillError(
            f"the cache {table} was made by another encoder than that of {base}: {sizes}. Encode again with "
            f"--base {config.base}{text} --overwrite {table}; {WITHOUT}"
        )
    if table == LATENTS and config.crop_size:
        raise MillError(
            f"--crop-size {config.crop_size} with the cache {table}: it is of whole pictures, and what it has of a "
            f"window is not a window of it; {WITHOUT}"
        )
    if table == LATENTS and config.random_flip and not made.mirrored:
        raise MillError(
            f"--random-flip with the cache {table}: it lacks the moments of mirrored pictures, which are not the "
            f"mirrored moments: encode again with --flip --overwrite {table}; {WITHOUT}"
        )
    if encoder.sha256 != facts.encoder_digest(table):
        return f"it was made by another {'VAE' if table == LATENTS else 'text encoder'} than that of {base}"
    return ""
