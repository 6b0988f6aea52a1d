"""The rules of tests/lint.py, each with a file that breaks it and one that does not."""

from __future__ import annotations

import pytest

from tests import lint
from tests.lint import LONG_FILES, MAX_LINES, MAX_NAME_WORDS, PRODUCT, files, violations


def rules(source, path="nameko_mesh/amqp/frames.py"):
    return [(violation.line, violation.rule) for violation in violations(path, source)]


@pytest.mark.parametrize("word", ["Who", "What", "Whether", "Of", "Those", "One", "How", "what", "What's"])
def test_docstring_begins_with_no_listed_word(word):
    assert rules(f'"""{word} is there."""\n') == [(1, "first-word")]


@pytest.mark.parametrize(
    "source",
    [
        'class A:\n    """One."""\n',
        'def f():\n    """One."""\n',
        'async def f():\n    """\n    One."""\n',
        'X = 1\n"""One of many."""\n',
        "x = 1\n# One more.\n",
        "x = 1\nx = 2  # one more\n",
        "x = 1\n#: One more.\n",
    ],
)
def test_first_word_holds_for_every_docstring_and_comment(source):
    assert rules(source) == [(2, "first-word")]


@pytest.mark.parametrize(
    "source",
    [
        '"""Whatever there is."""\n',
        '"""Ones."""\n',
        '"""Return what is there.\n\nOne more paragraph."""\n',
        "# The first line,\n# of which this is the second.\n",
        'x = "One"\n',
        '"""\n"""\n',
        "#\n",
        "#!/usr/bin/env python\n",
    ],
)
def test_other_beginnings_and_later_lines_are_free(source):
    assert rules(source) == []


def test_comment_after_code_is_not_the_continuation_of_the_line_above():
    assert rules("# Two:\nx = 1  # one\n# How it goes on.\n") == [(2, "first-word"), (3, "first-word")]


@pytest.mark.parametrize(("lines", "expected"), [(MAX_LINES, 0), (MAX_LINES + 1, 1)])
def test_product_file_has_a_limit_of_lines(lines, expected):
    source = "x = 1\n" * lines
    assert len(rules(source)) == expected
    assert rules(source, "tests/unit/x.py") == rules(source, "bench/x.py") == []


def test_listed_long_files_are_long_and_have_a_reason():
    for path, reason in LONG_FILES.items():
        assert len((lint.ROOT / path).read_text().splitlines()) > MAX_LINES, path
        assert reason


@pytest.mark.parametrize(("words", "expected"), [(MAX_NAME_WORDS, 0), (MAX_NAME_WORDS + 1, 1)])
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_test_name_has_a_limit_of_words(keyword, words, expected):
    source = f"{keyword} test_{'_'.join('w' * words)}():\n    pass\n"
    assert len(rules(source, "tests/unit/x.py")) == expected
    assert rules(source, "services/x.py") == []


@pytest.mark.parametrize("path", ["services/utils.py", "gateway/common/x.py", "bench/helpers.py"])
def test_module_has_a_name_of_its_own(path):
    assert rules("", path) == [(1, "module-name")]


def test_violation_is_printed_with_file_line_and_rule(monkeypatch, tmp_path, capsys):
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "x.py").write_text("x = 1\n# How.\n")
    monkeypatch.setattr(lint, "ROOT", tmp_path)

    assert lint.main() == 1

    assert capsys.readouterr().out.startswith("services/x.py:2: first-word: ")


def test_every_package_is_checked_without_its_migrations():
    checked = [path.relative_to(lint.ROOT) for path in files()]
    assert {path.parts[0] for path in checked} == {*PRODUCT, "bench", "tests"}
    assert not [path for path in checked if "versions" in path.parts]
