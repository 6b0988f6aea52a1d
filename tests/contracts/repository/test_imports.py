"""Imports: what a module loads, and that an import changes nothing in the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

_ASYNCIO_MODULES = [
    "gateway.app",
    "nameko_mesh.aio",
    "nameko_mesh.amqp.frames",
    "nameko_mesh.discovery.address",
    "nameko_mesh.discovery.consul_registration",
    "nameko_mesh.discovery.consul_watch",
    "nameko_mesh.events.schema",
]
_LOADED = "import sys, {module}; print(*sorted({{{packages}}} & set(sys.modules)))"
_NAMEKO = "'eventlet', 'nameko', 'kombu'"

_IMPORT_ALL = """
import importlib, kombu.serialization, logging, pkgutil, psycopg2.extensions, amqp.serialization, nameko_mesh

def state():
    registry = kombu.serialization.registry
    return (
        dict(amqp.serialization.PROPERTY_CLASSES), dict(registry._encoders), dict(registry._decoders),
        psycopg2.extensions.get_wait_callback(), logging.getLogger("nameko.containers").filters,
    )

before = state()
for module in pkgutil.walk_packages(nameko_mesh.__path__, "nameko_mesh."):
    importlib.import_module(module.name)
print(state() == before)
"""
_INSTALL_TWICE = """
import kombu.serialization, amqp.serialization
from nameko_mesh.amqp.serialization import install

def state():
    registry = kombu.serialization.registry
    return dict(amqp.serialization.PROPERTY_CLASSES), dict(registry._encoders), dict(registry._decoders)

stock = state()
install()
installed = state()
install()
print(stock != installed, installed == state(), kombu.serialization.dumps({"a": 1}, "json"))
"""
_STOCK_CONTAINER = """
import eventlet; eventlet.monkey_patch()
import amqp.serialization
from nameko import config
from nameko.containers import ServiceContainer
from nameko_mesh.amqp import frames
from nameko_mesh.events import event_handler
from nameko_mesh.rpc import ServiceClient, rpc

class Service:
    name = "service"
    {extension}

config["AMQP_URI"] = "pyamqp://nobody@127.0.0.1:1//"
stock = amqp.serialization.PROPERTY_CLASSES[frames.BASIC]
container = ServiceContainer(Service)
container.extensions.all.setup()
print(amqp.serialization.PROPERTY_CLASSES[frames.BASIC] is not stock)
"""


def run(program: str) -> str:
    """Return what a program prints in a fresh Python process."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", _ASYNCIO_MODULES)
def test_asyncio_module_loads_neither_eventlet_nor_nameko(module):
    assert run(_LOADED.format(module=module, packages=_NAMEKO)) == ""


@pytest.mark.parametrize("module", ["nameko_mesh.runtime", "nameko_mesh.rpc", "nameko_mesh.events.batches"])
def test_service_without_a_database_loads_no_sqlalchemy(module):
    assert run(_LOADED.format(module=module, packages="'sqlalchemy', 'psycopg2'")) == ""


def test_importing_every_module_changes_no_registry():
    assert run(_IMPORT_ALL) == "True"


def test_second_install_of_the_serialization_changes_nothing():
    assert run(_INSTALL_TWICE) == "True True ('application/json', 'utf-8', b'{\"a\":1}')"


@pytest.mark.parametrize(
    "extension",
    [
        "method = rpc(lambda self: None)",
        "method = event_handler('other', 'happened')(lambda self, event: None)",
        "other = ServiceClient('other')",
    ],
)
def test_extension_in_a_stock_container_installs_the_serialization(extension):
    assert run(_STOCK_CONTAINER.format(extension=extension)) == "True"
