"""The image holds what runs, all of it, and nothing else."""

from __future__ import annotations

import re
import tomllib

from mycelium.state import ROOT
from tests.contracts.repository.compose_file import DOCKERFILE, LAST_STAGE, copied

COPIED_FROM_THE_CHECKOUT = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)


def test_it_holds_every_package_and_the_settings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert set(copied()) == {*(name.removesuffix("*") for name in packages), "config.yml"}


def test_docker_is_given_what_is_copied_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    sources = {source for copy in COPIED_FROM_THE_CHECKOUT for source in copy.split()}
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == sources


def test_packages_are_installed_by_hash():
    installs = re.findall(r"pip install(?:.*\\\n)*.*", DOCKERFILE)
    assert len(installs) == 2
    assert all("--require-hashes" in install for install in installs)


def test_it_names_no_host_to_fetch_from():
    assert "://" not in DOCKERFILE
    assert not re.search(r"--(extra-)?index|--find-links|--trusted-host", DOCKERFILE)


def test_its_base_has_a_version():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert all(re.fullmatch(r"python:\d+\.\d+-slim-\w+", base) for base in bases)


def test_it_does_not_run_as_root():
    user = re.findall(r"^USER (\d+):\d+$", LAST_STAGE, re.MULTILINE)
    assert user
    assert int(user[-1]) > 0
