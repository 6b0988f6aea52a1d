"""SQL statements that live in files of their own, with comments at the clauses that they explain."""

from __future__ import annotations

import re
from importlib import resources
from string import Template
from typing import Any

_COMMENT = re.compile(r"--.*")


def load_sql(package: str, name: str, **constants: Any) -> str:
    """Return the statement in the file `name` of a package, without its comments and line breaks.

    Constants replace `$name`. Comments are stripped, because several statements are composed into one line. A
    string literal in the file must not contain two hyphens in a row.
    """
    text = resources.files(package).joinpath(name).read_text("utf-8")
    return " ".join(Template(_COMMENT.sub("", text)).substitute(constants).split())
