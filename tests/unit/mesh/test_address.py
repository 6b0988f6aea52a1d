"""Addresses of peers and of the Consul agent."""

from __future__ import annotations

import pytest

from nameko_mesh.discovery.address import consul_url, join_host_port, split_consul_url, split_host_port


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [("10.0.0.1", 80, "10.0.0.1:80"), ("::1", 80, "[::1]:80"), ("consul", 8500, "consul:8500")],
)
def test_host_and_port_survive_joining_and_splitting(host, port, text):
    assert join_host_port(host, port) == text
    assert split_host_port(text) == (host, port)


@pytest.mark.parametrize(
    ("http_addr", "url", "parts"),
    [
        ("consul", "http://consul", ("http", "consul", 8500)),
        ("127.0.0.1:8501", "http://127.0.0.1:8501", ("http", "127.0.0.1", 8501)),
        ("https://consul/", "https://consul", ("https", "consul", 8500)),
        ("http://[::1]:8500", "http://[::1]:8500", ("http", "::1", 8500)),
    ],
)
def test_consul_address_defaults_to_http_and_port_8500(http_addr, url, parts):
    assert consul_url(http_addr) == url
    assert split_consul_url(http_addr) == parts
