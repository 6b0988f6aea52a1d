"""Generate the gRPC code, or check that it is up to date: `python -m mycelium.protos [--check]`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from mycelium.state import ROOT

GENERATED = ("product_pb2.py", "product_pb2.pyi", "product_pb2_grpc.py")


def generate(folder: Path) -> None:
    options = [f"--{kind}={folder}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *options, "protos/product.proto"]
    subprocess.run(command, cwd=ROOT, check=True)


def stale_files() -> list[str]:
    """Return the names of generated files that no longer match the .proto file."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, kept = Path(scratch) / "protos", ROOT / "protos"
        return [name for name in GENERATED if (fresh / name).read_bytes() != (kept / name).read_bytes()]


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        generate(ROOT)
    elif different := stale_files():
        sys.exit(f"out of date with protos/product.proto: {', '.join(different)}; run `make protos`")
