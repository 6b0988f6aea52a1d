"""The image contains every package that runs, and nothing else."""

from __future__ import annotations

import re
import tomllib

from mycelium.state import ROOT
from tests.contracts.repository.compose_file import DOCKERFILE, LAST_STAGE, copied

COPIED_FROM_THE_CHECKOUT = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)


def test_image_contains_every_package_and_the_settings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert set(copied()) == {*(name.removesuffix("*") for name in packages), "config.yml"}


def test_build_context_contains_only_what_is_copied():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    sources = {source for copy in COPIED_FROM_THE_CHECKOUT for source in copy.split()}
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == sources


def test_packages_are_installed_by_hash():
    installs = re.findall(r"pip install(?:.*\\\n)*.*", DOCKERFILE)
    assert len(installs) == 2
    assert all("--require-hashes" in install for install in installs)


def test_dockerfile_names_no_package_host():
    assert "://" not in DOCKERFILE
    assert not re.search(r"--(extra-)?index|--find-links|--trusted-host", DOCKERFILE)


def test_base_image_has_a_version():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert all(re.fullmatch(r"python:\d+\.\d+-slim-\w+", base) for base in bases)


def test_image_does_not_run_as_root():
    user = re.findall(r"^USER (\d+):\d+$", LAST_STAGE, re.MULTILINE)
    assert user
    assert int(user[-1]) > 0
