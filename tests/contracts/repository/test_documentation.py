"""The documentation names files, modules and functions that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [*ROOT.glob("docs/*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
)
FOLDERS = ("nameko_mesh", "services", "gateway", "mycelium", "protos", "tests", "bench", "docs", "deploy")

_PATH = re.compile(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./-]*)(?::([A-Za-z_][\w.]*))?")
_DOTTED = re.compile(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})(?:\.[A-Za-z_]\w*)+)")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")
_CELL = re.compile(r"(?<!\\)\|")
MAX_CELL_LENGTH = 100


def names_in(text: str) -> set[str]:
    """Return the paths, the paths with a name such as `a/b.py:Class.method`, and the dotted names."""
    paths = {
        path.rstrip(".") + (f":{name.rstrip('.')}" if name else "") for path, name in _PATH.findall(text)
    }
    return paths | set(_DOTTED.findall(text))


def exists(name: str) -> bool:
    path, _, attribute = name.partition(":")
    if "/" not in path:
        return _is_dotted_name(path.split("."))
    return (ROOT / path).exists() and (not attribute or _defines(ROOT / path, attribute.split(".")))


def _is_dotted_name(parts: Sequence[str]) -> bool:
    """Look for the longest module, and for the rest of the name in it."""
    for length in range(len(parts), 0, -1):
        if module := _module(parts[:length]):
            return length == len(parts) or _defines(module, parts[length:])
    return (ROOT.joinpath(*parts[:-1]) / ".".join(parts[-1:])).is_dir()


def _module(parts: Sequence[str]) -> Path | None:
    base = ROOT.joinpath(*parts)
    candidates = (base / "__init__.py", base.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _defines(path: Path, names: Sequence[str]) -> bool:
    """Tell whether a module binds `names[0]`, and that in turn has the rest of the names."""
    if path.suffix != ".py":
        return names[0] in path.read_text()
    name, *rest = names
    for node in _bindings(_tree(path).body):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return not rest or _has_member(path, node, rest[0])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return not rest
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in _targets(node):
            return not rest
        if isinstance(node, ast.ImportFrom) and (alias := _imported(node, name)):
            source = _source(path, node)
            return source is not None and _defines(source, [alias, *rest])
    return False


def _bindings(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those below `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _bindings(node.body)
        else:
            yield node


def _targets(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _imported(node: ast.ImportFrom, name: str) -> str | None:
    return next((alias.name for alias in node.names if (alias.asname or alias.name) == name), None)


def _source(path: Path, node: ast.ImportFrom) -> Path | None:
    here = path.parent.relative_to(ROOT).parts
    base = here[: len(here) + 1 - node.level] if node.level else ()
    return _module([*base, *(node.module or "").split(".")])


def _has_member(path: Path, cls: ast.ClassDef, name: str) -> bool:
    for node in ast.walk(cls):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return True
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in _targets(node):
            return True
        if isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store):
            return True
    bases = (ast.unparse(base).partition("[")[0] for base in cls.bases)
    return any(_defines(path, [base, name]) for base in bases if base.isidentifier())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_names_only_what_exists(page: Path) -> None:
    names = names_in(page.read_text())
    assert sorted(name for name in names if not exists(name)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_page_lead_to_files(page: Path) -> None:
    links = set(_LINK.findall(page.read_text()))
    assert sorted(link for link in links if not (page.parent / link).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_table_cell_is_no_longer_than_a_line(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.lstrip().startswith("|")]
    cells = [cell.strip() for row in rows for cell in _CELL.split(row)]
    assert [cell for cell in cells if len(cell) > MAX_CELL_LENGTH] == []


@pytest.mark.parametrize(
    ("file", "line", "phrase"),
    [
        ("nameko_mesh/outbox/insertion.py", "CLAIM = timedelta(seconds=10)", "A claim lasts 10 s"),
        (
            "nameko_mesh/outbox/relay.py",
            "RETRY_PAUSE = timedelta(seconds=2)",
            "sent again two seconds later",
        ),
        ("nameko_mesh/outbox/relay.py", "MARK_SECONDS = 0.5", "half a second later at most"),
        ("nameko_mesh/outbox/relay.py", "POLL_SECONDS = 1.0", "searches the table: every second"),
        ("nameko_mesh/outbox/publisher.py", "CONFIRM_TIMEOUT_SECONDS = 3.0", "none within 3 s"),
        ("nameko_mesh/events/handler.py", "MAX_ATTEMPTS = 5", "it raises, attempt 5"),
        ("nameko_mesh/events/handler.py", "MAX_DELIVERIES = 20", "after 20 deliveries"),
        ("nameko_mesh/events/handler.py", "MAX_BUNDLE_DELIVERIES = 3", "dies over a bundle, 3 times"),
        ("nameko_mesh/rpc/entrypoint.py", "MAX_CRASHES = 5", "parks a request after five deaths"),
        ("nameko_mesh/aio/retries.py", "MAX_ATTEMPTS = 3", "3 attempts, a tenth of all calls"),
        (
            "services/orders/commands.py",
            "LEASE = timedelta(seconds=5)",
            "the lease of an order ends after 5 s",
        ),
        ("services/orders/commands.py", "REQUEST_TIMEOUT = timedelta(seconds=2.5)", "has had its 2.5 s"),
        ("services/orders/saga.py", "WRITE_SECONDS = 0.4", "leaves up to 0.4 s"),
        ("services/orders/recovery.py", "MAX_DELAY_SECONDS = 8.0", "pauses up to 8 s"),
        ("services/notifications/commands.py", "LEASE = timedelta(seconds=15)", "leases the mail for 15 s"),
        ("services/notifications/commands.py", "MAX_DELAY_SECONDS = 60.0", "pauses up to 60 s"),
        ("gateway/app.py", "_MAX_INSTANCE_FAILURES = 3", "or 3 of a gRPC instance"),
    ],
)
def test_architecture_states_the_limits_of_the_code(file: str, line: str, phrase: str) -> None:
    assert f"\n{line}\n" in (ROOT / file).read_text()
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert phrase.lower() in " ".join(page.split()).lower()


_PACKAGE = re.compile(r"^\| `nameko_mesh\.(\w+)` \|[^|]+\|([^|]*)\|$", re.MULTILINE)
_IMPORT = re.compile(r"^\s*(?:from|import) nameko_mesh(?:\.| import )(\w+)", re.MULTILINE)


def test_drawing_of_the_packages_has_their_imports() -> None:
    """The table beside the drawing lists each package, and the packages that it imports."""
    mesh = ROOT / "nameko_mesh"
    packages = {path.parent.name for path in mesh.glob("*/__init__.py")}
    imports = {
        package: {
            name for file in (mesh / package).rglob("*.py") for name in _IMPORT.findall(file.read_text())
        }
        for package in packages
    }
    described = _PACKAGE.findall((ROOT / "docs" / "architecture.md").read_text())
    assert {package: set(listed.replace(",", "").split()) for package, listed in described} == {
        package: (names & packages) - {package} for package, names in imports.items()
    }


def test_measured_tricks_are_in_the_table_of_cleverness() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    files = [
        file for folder in ("nameko_mesh", "services", "gateway") for file in (ROOT / folder).rglob("*.py")
    ]
    measured = {str(file.relative_to(ROOT)) for file in files if re.search(r"\bbench\b", _docstrings(file))}
    assert len(measured) > 10
    assert sorted(name for name in measured if name not in page) == []


def _docstrings(file: Path) -> str:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return "\n".join(
        ast.get_docstring(node) or "" for node in ast.walk(_tree(file)) if isinstance(node, nodes)
    )


@pytest.mark.parametrize(
    "name",
    [
        "nameko_mesh/outbox/relay.py:OutboxRelay.relay",
        "nameko_mesh/outbox/relay.py:OutboxRelay.setup",
        "services/orders/saga.py:place_orders",
        "services/orders/store.py:OrdersStore.transaction",
        "nameko_mesh.rpc.rpc",
        "nameko_mesh.aio.RpcClient.call",
        "nameko_mesh.outbox.relay",
        "gateway/fast_path.py",
        "docs/",
    ],
)
def test_existing_name_is_found(name: str) -> None:
    assert exists(name)


@pytest.mark.parametrize(
    "name",
    [
        "nameko_mesh/outbox/relay.py:OutboxRelay.relays",
        "services/orders/saga.py:place_order",
        "nameko_mesh.rpc.rpcs",
        "nameko_mesh.aio.RpcClient.cal",
        "nameko_mesh.outbox.fate",
        "gateway/direct.py",
    ],
)
def test_missing_name_is_reported(name: str) -> None:
    assert not exists(name)


def test_names_are_read_from_prose_tables_and_drawings() -> None:
    text = (
        "| `a` | `nameko_mesh/log.py`, gateway/app.py:create_app |\n`python -m bench.tricks.sql`. See docs/."
    )
    assert names_in(text) == {
        "nameko_mesh/log.py",
        "gateway/app.py:create_app",
        "bench.tricks.sql",
        "docs/",
    }
