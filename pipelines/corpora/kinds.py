"""The kinds of corpora, and which one an address is. A new kind is a module of its own and a row here."""

from __future__ import annotations

import os
import posixpath

import pyarrow as pa

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import without_scheme
from controlmill.schemas.results import PICTURES, SAMPLES

from .columns import Columns
from .corpus import Corpus
from .download_options import DownloadOptions
from .folder import FolderCorpus
from .hub import SCHEME, pinned, with_pattern
from .parquet import ParquetCorpus
from .store import StoreCorpus
from .table_layout import PICTURES as PICTURE_COLUMNS
from .table_layout import is_picture
from .tar import TarCorpus
from .url_lists import ENDINGS as URL_LIST_ENDINGS
from .url_lists import kind_of, url_column
from .urls import UrlCorpus

KINDS: dict[str, type[Corpus]] = {
    kind.kind: kind for kind in (FolderCorpus, StoreCorpus, TarCorpus, ParquetCorpus, UrlCorpus)
}
BY_ENDING: dict[str, type[Corpus]] = {".tar": TarCorpus, ".parquet": ParquetCorpus}
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")


def open_corpus(
    address: str,
    columns: Columns = Columns(),  # noqa: B008 it is frozen
    downloads: DownloadOptions = DownloadOptions(),  # noqa: B008
) -> Corpus:
    """The corpus at an address: a folder, or by its ending another kind.

    Little is read yet: of Parquet the columns of the first file; and where the address is on the Hub, it is the commit
    of now (:func:`hub.pinned`).

    Raises:
        MillError: files of a kind that is not read; Parquet files that are not there, or damaged; or the Hub does not
            answer.
    """
    address = without_scheme(address)
    if address.startswith(SCHEME):
        address = pinned(address)
        known = posixpath.splitext(address)[1].lower() in BY_ENDING or kind_of(address) in URL_LIST_ENDINGS
        address = address if known else with_pattern(address)
    if "://" not in address and os.path.isdir(address):
        return FolderCorpus(address, columns)
    if address.lower().endswith(COMPRESSED):
        raise MillError(
            f"{address}: in a compressed archive a picture has no place that it can be read from: "
            "unpack it first (gunzip, zstd -d…), the archive itself can stay as it is"
        )
    if kind_of(address) in URL_LIST_ENDINGS and (kind_of(address) != ".parquet" or _names_urls(address, columns)):
        return UrlCorpus(address, columns, downloads)
    kind = BY_ENDING.get(posixpath.splitext(address)[1].lower(), StoreCorpus if "://" in address else FolderCorpus)
    return kind(address, columns)


def _names_urls(address: str, columns: Columns) -> bool:
    """Whether a Parquet corpus has a column of URLs and none of pictures, or the chosen column is one of texts.

    Raises:
        MillError: the bytes beside its URLs may be of pictures or of something else.
    """
    schema = ParquetCorpus(address).schema()
    held = [field for field in schema if is_picture(field.type)]
    names = [field.name for field in held]
    if columns.image:
        return columns.image in set(schema.names) - set(names)
    urls = url_column(schema.names, columns)
    if urls and held and not any(field.name in PICTURE_COLUMNS or pa.types.is_struct(field.type) for field in held):
        raise MillError(f"{address}: {urls} holds URLs, and {', '.join(names)} hold bytes: choose with --image-column")
    return not held and urls is not None


def check_columns(corpus: Corpus) -> None:
    """Raise MillError where a column of pictures is named and the corpus is a folder of files."""
    if corpus.columns.image and isinstance(corpus, FolderCorpus | StoreCorpus):
        raise MillError(
            f"--image-column is for Parquet, tars and lists, and {corpus.address} is a folder: leave it out"
        )


def absolute(address: str) -> str:
    """An address that is the same from any working directory."""
    return address if "://" in address else os.path.abspath(address)


def check_kind(kind: str, address: str) -> None:
    """Whether this version knows the kind of corpus that a dataset's segment was listed from.

    Raises:
        MillError: it does not, or the dataset is one of results; ``address`` is the dataset's.
    """
    if kind in (SAMPLES, PICTURES):
        raise MillError(f"{address} are results of controlmill evaluate, which goes on with them: they do not grow")
    if kind not in KINDS:
        raise MillError(
            f"{address} was listed from a corpus of kind {kind}, which this ControlMill does not read "
            f"(it reads {', '.join(KINDS)}): use the one that made it"
        )
