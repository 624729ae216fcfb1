"""What `deploy/` shows can be typed, and its parts find each other. It has not been run on what it is for."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from controlmill.__main__ import app

DEPLOY = Path(__file__).parents[1] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
PROGRAM = "/opt/controlmill/bin/controlmill"


def resources() -> list[dict[str, Any]]:
    """All of all manifests."""
    return [resource for path in MANIFESTS for resource in yaml.safe_load_all(path.read_text("utf-8"))]


def pods() -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """(name of what makes it, labels, specification) of each kind of pod."""
    for resource in resources():
        template = resource.get("spec", {}).get("template")
        if template:
            yield resource["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def commands() -> Iterator[tuple[str, list[str]]]:
    """(where, words) of each command of ControlMill."""
    settings = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "systemd/cluster.env").read_text("utf-8"), re.MULTILINE))
    for path in UNITS:
        for line in re.findall(r"^ExecStart=(.*)$", path.read_text("utf-8"), re.MULTILINE):
            yield (
                path.name,
                [re.sub(r"\$\{(\w+)\}", lambda found: settings[found[1]], word) for word in shlex.split(line)],
            )
    for name, _, pod in pods():
        yield from ((name, container["command"]) for container in pod["containers"] if "command" in container)


@pytest.mark.parametrize(("where", "words"), commands(), ids=[where for where, _ in commands()])
def test_a_command_of_a_unit_or_a_pod_is_understood(where: str, words: list[str]) -> None:
    assert words[0] in (PROGRAM, "controlmill")
    command = typer.main.get_command(app)
    name, arguments = "controlmill", words[1:]
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(command.context_class(command), arguments)
    command.make_context(name, arguments)


def test_services_and_selectors_find_the_pods_that_they_are_for() -> None:
    known = {name: labels for name, labels, _ in pods()}
    names = {(resource["kind"], resource["metadata"]["name"]) for resource in resources()}
    for resource in resources():
        spec = resource.get("spec", {})
        if resource["kind"] == "Service":
            (found,) = [pod for _, labels, pod in pods() if spec["selector"].items() <= labels.items()]
            ports = {port["name"]: port["containerPort"] for one in found["containers"] for port in one["ports"]}
            assert {port["targetPort"]: port["port"] for port in spec["ports"]} == ports
        if resource["kind"] == "Deployment":
            assert spec["selector"]["matchLabels"].items() <= known[resource["metadata"]["name"]].items()
    for _, labels, pod in pods():
        assert labels["app.kubernetes.io/part-of"] == "controlmill"  # the NetworkPolicy lets these in
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod.get("volumes", ())]
        assert all(("PersistentVolumeClaim", claim) in names for claim in claims)
    joined = [words for _, words in commands() for word in words if word.startswith("controlmill-scheduler:8786")]
    assert len(joined) == 2
    assert ("Service", "controlmill-scheduler") in names


def test_a_scheduler_that_systemd_starts_is_reached_from_this_machine_alone_until_it_is_told_otherwise() -> None:
    (words,) = [words for where, words in commands() if where == "controlmill-cluster.service"]
    assert words[words.index("--listen") + 1].startswith("127.")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for path in UNITS:  # what they start must be there
        (tmp_path / path.name).write_text(path.read_text("utf-8").replace(PROGRAM, "/usr/bin/env"))
    words = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "controlmill-" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("kubernetes-validate"), reason="no kubernetes-validate (of PyPI)")
@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_kubernetes_understands_the_manifests(version: str) -> None:
    words = ["kubernetes-validate", "--strict", "-k", version, *map(str, MANIFESTS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
