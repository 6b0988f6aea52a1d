"""Settings of the gateway: environment variables, read once at start. An error names each bad variable."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nameko_mesh.aio import parse_addresses
from nameko_mesh.discovery.consul_watch import parse_endpoints

Rate = Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,5}/(second|minute|hour|day)$")]


class SettingsError(Exception):
    """A setting is missing or invalid. The message is one line that names each such setting."""


class Settings(BaseSettings):
    """An empty variable counts as missing. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(case_sensitive=True, env_ignore_empty=True, frozen=True)

    AMQP_URI: Annotated[str, StringConstraints(pattern=r"^(py)?amqps?://")]
    JWT_SECRET: Annotated[SecretStr, Field(min_length=32)]
    CONSUL_HTTP_ADDR: str | None = None
    CONSUL_HTTP_TOKEN: SecretStr | None = None
    ADVERTISE_ADDRESS: str | None = None
    """The address of this process in Consul. By default it is GATEWAY_HOST, or for a wildcard the address
    from which this process reaches Consul."""

    PRODUCTS_GRPC: str = ""
    """The gRPC addresses of products, as host:port with commas between. With Consul they are used until
    Consul has answered."""
    GATEWAY_PRODUCTS_OVER: Literal["grpc", "amqp"] = "grpc"
    """The first way to read a product. Without a known gRPC address it is AMQP in any case."""
    GATEWAY_STALE_SECONDS: Annotated[float, Field(ge=0, le=60)] = 5.0
    """The age up to which a cached product is shown while products is unavailable. 0 shows none."""

    SERVICE_VERSION: str = ""
    """The version in Consul, such as a release or a commit."""

    GATEWAY_HOST: str = "127.0.0.1"
    GATEWAY_PORT: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes a free port."""
    GATEWAY_SHARED_PORT: Annotated[int, Field(ge=1, le=65535)] | None = None
    """A second port, on which several gateways of one machine accept together, to use more cores than one
    process can. Each keeps a port of its own. GATEWAY_INSTANCES must give their number."""
    GATEWAY_INSTANCES: Annotated[int, Field(ge=1, le=1000)] = 1
    """The number of gateways that serve together, on one machine or on several. They share the limits on
    failed logins in equal parts. All other limits are per process."""
    GATEWAY_METRICS_HOST: str = "127.0.0.1"
    GATEWAY_METRICS_PORT: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of GET /metrics for Prometheus. There is none by default."""
    GATEWAY_TRUSTED_PROXIES: str = ""
    """Proxies whose X-Forwarded-For is trusted: addresses with commas between. There are none by default."""
    GATEWAY_CORS_ORIGINS: list[str] = []
    """Origins whose scripts may call the gateway, as a JSON list. There are none by default."""

    GATEWAY_DEADLINE: Annotated[float, Field(gt=0, le=60)] = 2.0
    """The time that all calls of one request may take together."""
    GATEWAY_CALLS: Annotated[int, Field(gt=0)] = 1000
    """The number of calls that may be in flight. Further calls are refused with 503."""
    GATEWAY_CALLS_PER_TARGET: Annotated[int, Field(gt=0)] = 500
    """The same limit for one service and for one instance, so that slow calls leave room for others."""
    GATEWAY_BATCH: Annotated[int, Field(gt=0, le=1000)] = 100
    """The number of orders, or of reads of products, that travel in one batch at most."""
    GATEWAY_LANES: Annotated[int, Field(gt=0)] = 3
    """The number of batches of one method that may be in flight."""
    GATEWAY_BODY_BYTES: Annotated[int, Field(gt=0)] = 1_000_000
    GATEWAY_BODY_SECONDS: Annotated[float, Field(gt=0)] = 10.0
    """The time in which the body of a request must arrive."""
    GATEWAY_DRAIN_SECONDS: Annotated[int, Field(gt=0)] = 10
    """The time that requests in flight have after SIGTERM."""

    GATEWAY_TOKEN_SECONDS: Annotated[int, Field(gt=0)] = 3600
    """The lifetime of a token."""
    GATEWAY_LOGINS_PER_ACCOUNT: Rate = "10/minute"
    """The limit on failed logins of one account. Successful logins are not limited."""
    GATEWAY_LOGINS_PER_ADDRESS: Rate = "60/minute"
    """The limit on failed logins from one address."""

    GATEWAY_STREAMS: Annotated[int, Field(gt=0)] = 1000
    """The number of clients that may follow an order at the same time."""
    GATEWAY_STREAM_SECONDS: Annotated[float, Field(gt=0)] = 3600.0
    """The time after which a stream ends. Its client connects again."""
    GATEWAY_HEARTBEAT_SECONDS: Annotated[float, Field(gt=0)] = 15.0
    """The silence after which a stream sends a comment and reads the order's status again."""

    @field_validator("AMQP_URI")
    @classmethod
    def _is_amqp_uri(cls, uri: str) -> str:
        parse_addresses(uri)
        return uri

    @field_validator("PRODUCTS_GRPC")
    @classmethod
    def _are_endpoints(cls, endpoints: str) -> str:
        parse_endpoints(endpoints)
        return endpoints

    @model_validator(mode="after")
    def _shared_port_is_shared(self) -> Self:
        if self.GATEWAY_SHARED_PORT is not None and self.GATEWAY_INSTANCES == 1:
            raise ValueError("GATEWAY_SHARED_PORT needs GATEWAY_INSTANCES, the number of gateways on it")
        if self.GATEWAY_SHARED_PORT == self.GATEWAY_PORT:
            raise ValueError("GATEWAY_PORT must differ from GATEWAY_SHARED_PORT: it is for one gateway")
        return self

    @property
    def secret(self) -> bytes:
        return self.JWT_SECRET.get_secret_value().encode()


def load_settings() -> Settings:
    """Return the settings of this process. Raises SettingsError."""
    try:
        return Settings()  # type: ignore[call-arg]  # the environment provides the required settings
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: object) -> str:
    assert isinstance(problem, dict)
    if not problem["loc"]:  # the message names the settings, because there are several
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"the setting {name} is missing: set the environment variable {name}"
    if name == "JWT_SECRET":
        return "the setting JWT_SECRET is too short: it needs 32 bytes or more"
    return f"the setting {name} is invalid: {problem['msg'].removeprefix('Value error, ')}"
