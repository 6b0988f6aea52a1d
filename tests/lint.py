"""`python -m tests.lint`: the rules for words and files that ruff has no rule for.

    first-word    no docstring or comment begins with a word of FIRST_WORDS: such sentences lack a verb
    file-length   no file of the product has more than MAX_LINES lines
    test-name     no test's name has more than MAX_NAME_WORDS words after `test_`
    module-name   no module has a name without a subject, such as `utils`

Prints a line for each violation, as `file:line: rule: what is wrong`. Exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PRODUCT = ("nameko_mesh", "gateway", "services", "mycelium")
HARNESS = ("bench", "tests")

FIRST_WORDS = frozenset({"who", "what", "whether", "of", "those", "one", "how"})
MAX_LINES = 250
MAX_NAME_WORDS = 12
VAGUE_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"})

LONG_FILES: Mapping[str, str] = {
    "nameko_mesh/grpc/http2/connection.py": "the state of a connection, which all of its handlers share",
}
"""Files that may be longer than MAX_LINES, with the reason."""


class Violation(NamedTuple):
    line: int
    rule: str
    text: str


def violations(path: str, source: str) -> list[Violation]:
    """Check a file. `path` is relative to the root of the repository."""
    found = [*_first_words(source), *_module_name(path)]
    if path.startswith(PRODUCT):
        found += _file_length(path, source)
    if path.startswith("tests/"):
        found += _test_names(source)
    return sorted(found)


def _first_words(source: str) -> Iterator[Violation]:
    for line, text in [*_docstrings(source), *_comments(source)]:
        words = text.split()
        word = words[0].strip("\"'`*.,:;()").partition("'")[0] if words else ""
        if word.lower() in FIRST_WORDS:
            yield Violation(line, "first-word", f"begins with {word!r}: name the subject, or use a verb")


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the strings that stand alone as a statement: of modules, classes, functions and attributes."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield each comment. A block of lines that hold nothing but comments is one comment."""
    last_line = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        stands_alone = token.line[: token.start[1]].isspace() or token.start[1] == 0
        line = token.start[0]
        continues = stands_alone and line == last_line + 1
        last_line = line if stands_alone else -1
        if not continues:
            yield line, token.string.lstrip("#:")


def _file_length(path: str, source: str) -> Iterator[Violation]:
    lines = len(source.splitlines())
    if lines > MAX_LINES and path not in LONG_FILES:
        yield Violation(lines, "file-length", f"{lines} lines, {MAX_LINES} are allowed")


def _test_names(source: str) -> Iterator[Violation]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            words = node.name.removeprefix("test_").split("_")
            if len(words) > MAX_NAME_WORDS:
                text = f"{node.name} has {len(words)} words, {MAX_NAME_WORDS} are allowed"
                yield Violation(node.lineno, "test-name", text)


def _module_name(path: str) -> Iterator[Violation]:
    for part in Path(path).with_suffix("").parts:
        if part in VAGUE_NAMES:
            yield Violation(1, "module-name", f"{part!r} says nothing about the module's subject")


def files() -> Iterator[Path]:
    """Yield the checked files. Migrations are left out, because a released migration never changes."""
    for folder in PRODUCT + HARNESS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "versions" not in path.parts:
                yield path


def main() -> int:
    count = 0
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        for violation in violations(name, path.read_text()):
            print(f"{name}:{violation.line}: {violation.rule}: {violation.text}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
