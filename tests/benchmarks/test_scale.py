"""The arithmetic of sizes: what it says of any corpus, and that the page shows what it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import scale
from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.plan import forward_groups
from controlmill.schemas.bounds import MAX_SHARDS
from controlmill.schemas.conditions import CONDITIONS

PAGE = (Path(__file__).parents[2] / "docs/scale.md").read_text("utf-8")


def test_the_page_shows_what_the_script_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scale"])
    scale.main()
    for table in capsys.readouterr().out.strip().split("\n\n"):
        assert table in PAGE


def test_every_condition_has_figures_and_shares_its_forward_pass_as_jobs_do() -> None:
    assert set(scale.CONDITIONS) == set(CONDITIONS)
    shared = {
        tuple(choice.condition for choice in group.choices): network.name if (network := group.network()) else None
        for group in forward_groups(parse_conditions(",".join(scale.CONDITIONS)))
    }
    assert {tuple(work.tables): work.network for work in scale.WORKS} == shared


def test_twice_the_pictures_take_twice_the_work_and_a_shared_forward_pass_is_paid_once() -> None:
    once, twice = (scale.estimate(count * 512, ["hed", "canny"]) for count in (1000, 2000))
    assert sum(twice.core_seconds.values()) == pytest.approx(2 * sum(once.core_seconds.values()))
    assert (twice.shards, twice.reads, twice.writes) == (2 * once.shards, 2 * once.reads, 2 * once.writes)
    both = scale.estimate(512_000, ["hed", "scribble", "canny"])
    assert sum(both.core_seconds.values()) - sum(once.core_seconds.values()) == pytest.approx(
        1000 * scale.SHARD_SECONDS
    )


def test_what_an_index_cannot_hold_takes_several_datasets() -> None:
    assert scale.estimate(MAX_SHARDS * 512, ["canny"]).datasets == 1
    assert scale.estimate(MAX_SHARDS * 512 + 1, ["canny"]).datasets == 2
    assert scale.estimate(MAX_SHARDS * 512 + 1, ["canny"], shard_size=1024).datasets == 1


def test_the_speed_of_a_gpu_is_read_from_what_was_measured_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"case": "hed bf16", "pictures_per_second": 100.0, "host_ms_a_picture": 4.0}
    file = tmp_path / "annotators.json"
    file.write_text(json.dumps({"device": "H100", "rows": [row, {**row, "case": "hed fp32"}]}))
    gpu = scale.read_gpu(file, "bf16")
    found = scale.estimate(1000, ["hed", "canny"], gpu=gpu)
    assert found.gpu_seconds == {"hed": pytest.approx(10)}
    assert found.core_seconds["hed"] == pytest.approx(4, abs=0.1)
    assert found.core_seconds["canny"] == scale.estimate(1000, ["canny"]).core_seconds["canny"]
    monkeypatch.setattr(sys, "argv", ["scale", "--gpu", str(file), "--conditions", "pose"])
    with pytest.raises(SystemExit):
        scale.main()
    assert "H100 was not measured with openpose" in capsys.readouterr().err
