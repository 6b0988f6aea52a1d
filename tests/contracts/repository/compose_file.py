"""Parse docker-compose.yml and the Dockerfile for their tests."""

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
    """A container of the project's image: its command, environment and health check."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    healthcheck: tuple[str, ...]
    stop_seconds: float


def services(text: str = COMPOSE) -> dict[str, dict[str, Any]]:
    """Return the services as written, with unresolved variables."""
    parsed: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return parsed


def ours() -> dict[str, dict[str, Any]]:
    """Return the services that run the project's image."""
    return {name: service for name, service in services().items() if service["image"] == "mycelium:local"}


def variables() -> dict[str, str]:
    """Return each variable that Docker Compose resolves, with the text after its name."""
    return {match["name"]: match["rest"] for match in VARIABLE.finditer(COMPOSE) if match["name"]}


def containers(secrets: Mapping[str, str]) -> dict[str, Container]:
    """Return the containers of the project's image. `secrets` stands for the .env file."""
    filled = services(VARIABLE.sub(lambda match: "$" if match["dollar"] else secrets[match["name"]], COMPOSE))
    return {
        name: Container(
            name=name,
            command=tuple(filled[name]["command"]),
            environment={
                # Docker Compose takes a variable without a value from the .env file.
                variable: secrets[variable] if value is None else str(value)
                for variable, value in filled[name]["environment"].items()
            },
            healthcheck=tuple(filled[name].get("healthcheck", {}).get("test", ())),
            stop_seconds=seconds(filled[name].get("stop_grace_period", "10s")),
        )
        for name in ours()
    }


def seconds(duration: str) -> float:
    """Parse a duration of whole seconds, such as 35s."""
    return float(duration.removesuffix("s"))


def copied() -> list[str]:
    """Return the files and folders of the checkout that the image contains."""
    return re.findall(r"^COPY (?!--from)(\S+) \S+$", LAST_STAGE, re.MULTILINE)


def image_environment(folder: Path) -> dict[str, str]:
    """Return the image's environment without PATH. `folder` replaces its working directory."""
    [working_directory] = re.findall(r"^WORKDIR (\S+)$", LAST_STAGE, re.MULTILINE)
    lines = re.findall(r"^ENV ((?:.*\\\n)*.*)$", LAST_STAGE, re.MULTILINE)
    pairs = re.findall(r"(\w+)=(\S+)", " ".join(lines))
    return {name: value.replace(working_directory, str(folder)) for name, value in pairs if name != "PATH"}
