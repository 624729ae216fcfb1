"""Which caches of a dataset a run may use, and why not the others; and a step's latents from cached moments.

A cache is used when it was made from these images and captions by encoders equal to the base's, weight by weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controlmill.bases.digests import text_digest, vae_digest
from controlmill.bases.loading import load_part
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.tables import CACHES, EMBEDDINGS, LATENTS

if TYPE_CHECKING:
    from controlmill.bases.configuration import Facts

    from ..config import TrainConfig

WITHOUT = "--caches off trains without it"
AGAIN = "controlmill encode … --overwrite"


@dataclass(frozen=True)
class Caches:
    """What is read instead of encoded. ``stored`` is the dtype by table; ``unused`` is the reason by table."""

    stored: dict[str, str] = field(default_factory=dict)
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


def find_caches(dataset: Dataset, config: TrainConfig, facts: Facts, wanted: Sequence[str] | None = None) -> Caches:
    """The caches that fit.

    Args:
        dataset: where they are.
        config: whether they are to be used, the base, crop and mirror.
        facts: of the base.
        wanted: what a run that goes on began with: just these are used.

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
    return Caches(stored, mirrored, unused)


def _misfit(dataset: Dataset, status: str, made: Provenance) -> str:
    """Why a finished cache is not of these images and captions; empty where it is."""
    if status == "stale":
        return "it was made from other images than are there now"
    if made.captions and made.captions != dataset.captions():
        return "it was made from other captions than are there now"
    return ""


def _check(table: str, made: Provenance, config: TrainConfig, facts: Facts) -> str:
    """Why a cache is of another base of the same sizes; empty where it is of this one.

    What is wrong whatever the weights is found before any is loaded.
    """
    encoder, base = made.encoded_by, f"the base {config.base}"
    if table == LATENTS:
        sizes, here = (encoder.channels, encoder.factor), (facts.vae["latent_channels"], facts.vae_factor)
        if sizes != here:
            raise MillError(
                f"the cache {table} was made by a VAE of {sizes[0]} channels and factor {sizes[1]}, {base} has one of "
                f"{here[0]} and {here[1]}: encode again with --base {config.base} --overwrite {table}; {WITHOUT}"
            )
        if config.crop_size:
            raise MillError(
                f"--crop-size {config.crop_size} with the cache {table}: its moments are of whole pictures, and those "
                f"of a window are not a window of them; {WITHOUT}"
            )
        if config.random_flip and not made.mirrored:
            raise MillError(
                f"--random-flip with the cache {table}: it lacks the moments of mirrored pictures, which are not the "
                f"mirrored moments: encode again with --flip --overwrite {table}; {WITHOUT}"
            )
    elif encoder.width != (width := facts.unet["cross_attention_dim"]):
        raise MillError(
            f"the cache {table} has embeddings of width {encoder.width}, {base} attends to {width}: "
            f"encode again with --base {config.base} --text --overwrite {table}; {WITHOUT}"
        )
    if encoder.sha256 != encoder_digest(table, config.base):
        return f"it was made by another {'VAE' if table == LATENTS else 'text encoder'} than that of {base}"
    return ""


def encoder_digest(table: str, base: str) -> str:
    """Digest of the encoder of a base that fills a cache; no network is loaded."""
    return vae_digest(base) if table == LATENTS else text_digest(base, load_part(base, "tokenizer"))
