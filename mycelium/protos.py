"""`python -m mycelium.protos [--check]`: generates the gRPC code, or checks that it is up to date."""

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


def stale() -> list[str]:
    """The generated files that differ from what the .proto gives now."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, kept = Path(scratch) / "protos", ROOT / "protos"
        return [name for name in GENERATED if (fresh / name).read_bytes() != (kept / name).read_bytes()]


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        generate(ROOT)
    elif different := stale():
        sys.exit(f"not what protos/product.proto gives: {', '.join(different)}; run `make protos`")
