"""What img2dataset could not download for a tar: it stands in the table of the same name beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from controlmill.schemas.errors import Damaged, MillError, error_text
from controlmill.schemas.files.layout import LayoutCheck
from controlmill.schemas.files.shardfile import ShardFile, read_rows

from .archives import named, refused
from .corpus import Source
from .img2dataset import STATUS, SUCCESS, refusal
from .places import Place, Places
from .table_layout import BUFFER, is_text

COLUMNS = ("key", *STATUS)


def not_downloaded(places: Places, archive: Place, check: LayoutCheck) -> Iterator[Source]:
    """A refused source for each URL that a tar of img2dataset has no picture of; none beside other tars.

    ``check`` looks at the table's footer first.

    Raises:
        MillError: the table cannot be read.
    """
    name = f"{archive.name.rpartition('.')[0]}.parquet"
    where = f"{places.root}/{name}"
    try:
        if places.look_at(name) is None:
            return
        check(places.storage, name)
        with closing(ShardFile(places.open(name), BUFFER)) as table:
            texts = {field.name for field in table.schema_arrow if is_text(field.type)}
            for row in read_rows(table, COLUMNS) if texts.issuperset(COLUMNS) else ():
                if row["status"] != SUCCESS:
                    source = named(f"{row['key']}.jpg")
                    yield refused(source, *refusal(row["status"], row["error_message"]))._replace(etag=archive.mark)
    except (Damaged, OSError) as error:
        why = error_text(error) if isinstance(error, OSError) else error
        raise MillError(f"{where} cannot be read: {why}; move it away where it is not of these tars") from error
