"""Settings of the gateway: environment variables, read once at start and missed by name."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nameko_mesh.aio import parse_addresses
from nameko_mesh.discovery.consul_watch import parse_endpoints

Rate = Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,5}/(second|minute|hour|day)$")]


class SettingsError(Exception):
    """Settings that are missing or make no sense; the message is one line that names each."""


class Settings(BaseSettings):
    """An empty variable counts as an absent one. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(case_sensitive=True, env_ignore_empty=True, frozen=True)

    AMQP_URI: Annotated[str, StringConstraints(pattern=r"^(py)?amqps?://")]
    JWT_SECRET: Annotated[SecretStr, Field(min_length=32)]
    CONSUL_HTTP_ADDR: str | None = None
    CONSUL_HTTP_TOKEN: SecretStr | None = None
    ADVERTISE_ADDRESS: str | None = None
    """Under which others reach this process, for Consul; found out when GATEWAY_HOST is a wildcard."""

    PRODUCTS_GRPC: str = ""
    """Where products answers gRPC, as host:port with commas between: all there is without Consul, and
    what is known until Consul has answered."""
    GATEWAY_PRODUCTS_OVER: Literal["grpc", "amqp"] = "grpc"
    """How a product is read first; over AMQP alone also when nothing is known of gRPC."""
    GATEWAY_STALE_SECONDS: Annotated[float, Field(ge=0, le=60)] = 5.0
    """How old a product may be that is shown when products can't be asked in any way; 0 shows none."""

    SERVICE_VERSION: str = ""
    """What runs here, for Consul: a release, a commit."""

    GATEWAY_HOST: str = "127.0.0.1"
    GATEWAY_PORT: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes a free port."""
    GATEWAY_SHARED_PORT: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where several gateways of one machine accept together, each of them besides a port of its own: for
    more cores than one process can use. GATEWAY_INSTANCES has to say how many."""
    GATEWAY_INSTANCES: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many gateways serve together, on one machine or on several. All of them allow no more failed
    logins than the limits say, for each allows its part; every other limit is that of one process."""
    GATEWAY_METRICS_HOST: str = "127.0.0.1"
    GATEWAY_METRICS_PORT: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where GET /metrics is answered for Prometheus; nowhere unless told."""
    GATEWAY_TRUSTED_PROXIES: str = ""
    """Addresses whose X-Forwarded-For is believed, with commas between; none unless told."""
    GATEWAY_CORS_ORIGINS: list[str] = []
    """Origins whose scripts may call, as a JSON list; none unless told."""

    GATEWAY_DEADLINE: Annotated[float, Field(gt=0, le=60)] = 2.0
    """What one request may take behind the gateway, all calls together."""
    GATEWAY_CALLS: Annotated[int, Field(gt=0)] = 1000
    """How many calls may be in flight at once; one more is refused with 503."""
    GATEWAY_CALLS_PER_TARGET: Annotated[int, Field(gt=0)] = 500
    """The same for one service, and for one instance: a slow one takes no more than that of all calls."""
    GATEWAY_BATCH: Annotated[int, Field(gt=0, le=1000)] = 100
    """How many orders, or reads of products, travel together at most."""
    GATEWAY_LANES: Annotated[int, Field(gt=0)] = 3
    """How many such batches of one kind are under way at once."""
    GATEWAY_BODY_BYTES: Annotated[int, Field(gt=0)] = 1_000_000
    GATEWAY_BODY_SECONDS: Annotated[float, Field(gt=0)] = 10.0
    """How long a client may take to send its body."""
    GATEWAY_DRAIN_SECONDS: Annotated[int, Field(gt=0)] = 10
    """How long requests in flight may go on after SIGTERM."""

    GATEWAY_TOKEN_SECONDS: Annotated[int, Field(gt=0)] = 3600
    GATEWAY_LOGINS_PER_ACCOUNT: Rate = "10/minute"
    GATEWAY_LOGINS_PER_ADDRESS: Rate = "60/minute"
    """Failed logins, that is; one that works costs nothing."""

    GATEWAY_STREAMS: Annotated[int, Field(gt=0)] = 1000
    """How many clients may follow an order at once."""
    GATEWAY_STREAM_SECONDS: Annotated[float, Field(gt=0)] = 3600.0
    """After so long a stream ends; its client connects again."""
    GATEWAY_HEARTBEAT_SECONDS: Annotated[float, Field(gt=0)] = 15.0

    @field_validator("AMQP_URI")
    @classmethod
    def _can_be_read(cls, uri: str) -> str:
        parse_addresses(uri)
        return uri

    @field_validator("PRODUCTS_GRPC")
    @classmethod
    def _are_endpoints(cls, written: str) -> str:
        parse_endpoints(written)
        return written

    @model_validator(mode="after")
    def _is_shared_by_several(self) -> Self:
        if self.GATEWAY_SHARED_PORT is not None and self.GATEWAY_INSTANCES == 1:
            raise ValueError("GATEWAY_SHARED_PORT needs GATEWAY_INSTANCES: how many gateways share it")
        if self.GATEWAY_SHARED_PORT == self.GATEWAY_PORT:
            raise ValueError("GATEWAY_PORT is each gateway's own, and can't be the GATEWAY_SHARED_PORT")
        return self

    @property
    def secret(self) -> bytes:
        return self.JWT_SECRET.get_secret_value().encode()


def load_settings() -> Settings:
    """The settings of this process. Raises SettingsError."""
    try:
        return Settings()  # type: ignore[call-arg]  # the environment fills the required ones
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: object) -> str:
    assert isinstance(problem, dict)
    if not problem["loc"]:  # it is of several, which it names
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"the setting {name} is missing: set the environment variable {name}"
    if name == "JWT_SECRET":
        return "the setting JWT_SECRET is too short: it needs 32 bytes or more"
    return f"the setting {name} makes no sense: {problem['msg'].removeprefix('Value error, ')}"
