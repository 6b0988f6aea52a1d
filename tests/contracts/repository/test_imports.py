"""Imports: asyncio programs load neither eventlet nor Nameko, and an import changes nothing else."""

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
_LOADED = "import sys, {module}; print(*sorted({{'eventlet', 'nameko', 'kombu'}} & set(sys.modules)))"


def run(program: str) -> str:
    """Return what a program prints in a fresh Python process."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", _ASYNCIO_MODULES)
def test_asyncio_module_loads_neither_eventlet_nor_nameko(module):
    assert run(_LOADED.format(module=module)) == ""
