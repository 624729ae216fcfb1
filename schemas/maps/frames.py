"""Names of frames that normals are given in. Light: options are checked against it."""

from __future__ import annotations

from typing import Literal

Frame = Literal["opengl", "opencv", "dsine"]
