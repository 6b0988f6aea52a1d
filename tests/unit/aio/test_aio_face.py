"""The public face of nameko_mesh.aio, and what a program loads with it."""

from __future__ import annotations

import subprocess
import sys

import nameko_mesh.aio


def loaded(statement: str, packages: str) -> str:
    script = f"import sys\n{statement}\nprint(*sorted(set({packages.split()!r}) & set(sys.modules)))"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_face_loads_neither_eventlet_nor_nameko_with_all_its_names() -> None:
    assert loaded("from nameko_mesh.aio import *", "eventlet nameko kombu grpc") == "grpc"


def test_rpc_client_loads_neither_grpcio_nor_httpx() -> None:
    assert loaded("from nameko_mesh.aio import RpcClient", "grpc httpx nameko_mesh.aio.batcher") == ""


def test_unknown_name_raises_attribute_error() -> None:
    assert not hasattr(nameko_mesh.aio, "Unknown")
