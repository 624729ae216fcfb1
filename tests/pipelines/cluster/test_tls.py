"""A cluster with certificates."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import command_in_new_process, digests
from tests.processes import free_port


@pytest.mark.long
def test_with_certificates_a_cluster_listens_with_tls(photos: Path, dataset: Path, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here")
    for words in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=cluster -keyout ca-key.pem -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=member -keyout key.pem -out request.pem",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -days 2 -out cert.pem",
    ):
        subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    pair = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    tls = {"ca-file": str(tmp_path / "ca.pem"), **dict.fromkeys(("scheduler", "worker", "client"), pair)}
    (tmp_path / "tls.yaml").write_text(json.dumps({"distributed": {"comm": {"tls": tls}}}))
    environment = {**os.environ, "DASK_CONFIG": str(tmp_path / "tls.yaml"), "XDG_STATE_HOME": str(tmp_path)}
    address = f"tls://127.0.0.1:{free_port()}"

    def controlmill(*words: str) -> str:
        return command_in_new_process(*words, env=environment).stderr

    try:
        assert f"listens at {address}" in controlmill(
            "cluster", "up", "--listen", address, "--workers", "1", "--detach"
        )
        plain = controlmill("cluster", "status", "--cluster", address.removeprefix("tls://"))
        assert "does not answer as a Dask scheduler" in plain
        words = ("--conditions", "canny,hough=lsd,cartoon=standard", "--resolution", "128", "--min-side", "16")
        limits = ("--max-megapixels", "1", "--shard-size", "4", "--cluster", address)
        said = controlmill("build", str(photos), str(tmp_path / "dataset"), *words, *limits)
        assert digests(tmp_path / "dataset") == digests(dataset), said
    finally:
        assert f"ended: the scheduler at {address}" in controlmill("cluster", "down")
