"""The description of the reflection protocol's version 1."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from google.protobuf import descriptor_pool
import nameko_mesh.grpc.entrypoint
from nameko_mesh.grpc import reflection

def described():
    try:
        return bool(descriptor_pool.Default().FindServiceByName("grpc.reflection.v1.ServerReflection"))
    except KeyError:
        return False

before = described()
reflection.describe_v1()
reflection.describe_v1()
print(before, described())
"""


def test_protobuf_s_pool_changes_by_the_call_and_not_by_the_import():
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "True",
    ]
