"""Settings of a Nameko service, from `nameko.config`: read late, and missed by name."""

from __future__ import annotations

from typing import Any

from nameko import config
from nameko.exceptions import ConfigurationError


class MissingSetting(ConfigurationError):
    """A setting without which the service must not start."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the setting {name} is missing: set the environment variable {name}, "
            f"or write it into config.yml (what `make run` uses stands in .mycelium/env)"
        )


def required(name: str) -> str:
    """The setting, or `MissingSetting` when it is absent or empty."""
    value = config.get(name)
    if value is None or value == "":
        raise MissingSetting(name)
    return str(value)


def optional(name: str, default: Any = None) -> Any:
    """The setting, or the default when it is absent or empty (an unset `${NAME}` is empty)."""
    value = config.get(name)
    return default if value is None or value == "" else value


def broker_options() -> dict[str, Any]:
    """What Nameko's own publishers take from the configuration beside the URI."""
    return {"ssl": config.get("AMQP_SSL"), "login_method": config.get("LOGIN_METHOD")}


def database_url(service_name: str) -> str:
    """This service's own database: `{service}` in DATABASE_URL stands for its name."""
    return required("DATABASE_URL").replace("{service}", service_name)
