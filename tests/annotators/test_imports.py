"""Annotators as a library: what they need is what they work with."""

from __future__ import annotations

import subprocess
import sys


def test_annotators_work_without_the_packages_of_the_command_line() -> None:
    says = (
        "import numpy as np\n"
        "from controlmill.pipelines.engine.imports import without\n"
        "with without(('typer', 'rich', 'apache_beam')):\n"
        "    from controlmill.annotators.catalogue import parse_conditions\n"
        "    for choice in parse_conditions('all'): choice.build()\n"
        "    from controlmill.annotators.plan import find_weights\n"
        "    import controlmill.annotators.options\n"
        "    found = parse_conditions('canny')[0].build()\n"
        "    drawn = found.draw(np.random.default_rng(0))\n"
        "    assert found.annotate(np.zeros((64, 64, 3), np.uint8), None, drawn).map.shape == (64, 64)"
    )
    subprocess.run([sys.executable, "-c", says], check=True, timeout=60)
