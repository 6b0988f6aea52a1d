"""Settings of a Nameko service, from `nameko.config`.

Read settings when they are needed, because Nameko loads the configuration after it imports the service. A
missing setting is named in the error.
"""

from __future__ import annotations

from typing import Any

from nameko import config
from nameko.exceptions import ConfigurationError


class MissingSetting(ConfigurationError):
    """A required setting is absent."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the setting {name} is missing: set the environment variable {name}, "
            f"or write it into the file that `nameko run --config` reads"
        )


def required(name: str) -> str:
    """Return the setting. Raises MissingSetting when it is absent or empty."""
    value = config.get(name)
    if value is None or value == "":
        raise MissingSetting(name)
    return str(value)


def optional(name: str, default: Any = None) -> Any:
    """Return the setting, or the default when it is absent or empty. An unset `${NAME}` is empty."""
    value = config.get(name)
    return default if value is None or value == "" else value


def broker_options() -> dict[str, Any]:
    """Return the options of Nameko's publishers, without the URI."""
    return {"ssl": config.get("AMQP_SSL"), "login_method": config.get("LOGIN_METHOD")}


def database_url(service_name: str) -> str:
    """Return DATABASE_URL, with the name of the service in place of `{service}`."""
    return required("DATABASE_URL").replace("{service}", service_name)
