"""Connections to the services: one AMQP connection for calls and events, and gRPC to products."""

from __future__ import annotations

from nameko_mesh.aio import Balancer, Discovery, RpcClient
from nameko_mesh.discovery.consul_watch import Watch, parse_endpoints

from ..settings import Settings
from .products_grpc import ProductsOverGrpc


def connect(settings: Settings) -> RpcClient:
    """Return a client that is not started yet.

    While the broker is away, a call waits for it at most half of its deadline. A short break goes unnoticed.
    In a long break the caller gets "unavailable" before its deadline passes.
    """
    return RpcClient(
        settings.AMQP_URI,
        name="gateway",
        max_in_flight=settings.GATEWAY_CALLS,
        patience=settings.GATEWAY_DEADLINE / 2,
    )


def products_over_grpc(settings: Settings, balancer: Balancer) -> ProductsOverGrpc | None:
    """Return the gRPC client of products, or None.

    None means that the settings turn gRPC off, or that neither they nor Consul name an instance.
    """
    static = parse_endpoints(settings.PRODUCTS_GRPC)
    agent = settings.CONSUL_HTTP_ADDR
    if settings.GATEWAY_PRODUCTS_OVER != "grpc" or not (static or agent):
        return None
    if not agent:
        return ProductsOverGrpc(balancer, static, None)
    token = settings.CONSUL_HTTP_TOKEN
    watch = Watch(
        agent,
        "products",
        token=token.get_secret_value() if token else None,
        static=static,
        on_change=balancer.update,
    )
    return ProductsOverGrpc(balancer, static, Discovery(watch))
