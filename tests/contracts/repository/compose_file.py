"""docker-compose.yml and the Dockerfile, as far as their tests need to understand them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mycelium.state import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LAST_STAGE = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[-1]

VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?P<rest>[^}]*)\})")


@dataclass(frozen=True)
class Container:
    """A container of our own image: what Docker would run in it, with what."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    healthcheck: tuple[str, ...]
    stop_seconds: float


def services(text: str = COMPOSE) -> dict[str, dict[str, Any]]:
    """The services as they are written, variables and all."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """Those that run our own image."""
    return {name: service for name, service in services().items() if service["image"] == "mycelium:local"}


def variables() -> dict[str, str]:
    """Each variable that Docker Compose fills in, with what stands after its name."""
    return {found["name"]: found["rest"] for found in VARIABLE.finditer(COMPOSE) if found["name"]}


def containers(secrets: Mapping[str, str]) -> dict[str, Container]:
    """What Docker Compose would start of our image; `secrets` stands for the .env file."""
    filled = services(VARIABLE.sub(lambda found: "$" if found["dollar"] else secrets[found["name"]], COMPOSE))
    return {
        name: Container(
            name=name,
            command=tuple(filled[name]["command"]),
            environment={
                # A variable without a value is taken over from the .env file.
                variable: secrets[variable] if value is None else str(value)
                for variable, value in filled[name]["environment"].items()
            },
            healthcheck=tuple(filled[name].get("healthcheck", {}).get("test", ())),
            stop_seconds=seconds(filled[name].get("stop_grace_period", "10s")),
        )
        for name in ours()
    }


def seconds(duration: str) -> float:
    """A duration of whole seconds, such as 35s."""
    return float(duration.removesuffix("s"))


def copied() -> list[str]:
    """The files and folders of the checkout that are in the image."""
    return re.findall(r"^COPY (?!--from)(\S+) \S+$", LAST_STAGE, re.MULTILINE)


def image_environment(folder: Path) -> dict[str, str]:
    """What the image itself sets, but for PATH; `folder` is where its working directory is."""
    [working_directory] = re.findall(r"^WORKDIR (\S+)$", LAST_STAGE, re.MULTILINE)
    lines = re.findall(r"^ENV ((?:.*\\\n)*.*)$", LAST_STAGE, re.MULTILINE)
    pairs = re.findall(r"(\w+)=(\S+)", " ".join(lines))
    return {name: value.replace(working_directory, str(folder)) for name, value in pairs if name != "PATH"}
