"""Files get the permissions that the umask gives."""

from __future__ import annotations

import tempfile
from pathlib import Path

from controlmill.schemas.files.permissions import obey_umask


def test_a_file_made_for_its_owner_gets_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with tempfile.NamedTemporaryFile(dir=tmp_path) as made:
        assert Path(made.name).stat().st_mode & 0o777 == 0o600
        obey_umask(Path(made.name))
        assert Path(made.name).stat().st_mode == (tmp_path / "other").stat().st_mode
