"""Every test asserts something, and none has a way of its own to find its helpers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = {str(path.relative_to(TESTS)): path for path in sorted(TESTS.rglob("*.py"))}
ASSERTS = ("pytest.raises", "pytest.warns", "pytest.fail")


def asserts(function: ast.FunctionDef, helpers: set[str]) -> bool:
    """Whether it asserts, by itself, by a helper of its file, the fixture watch or a program that fails."""
    if any(argument.arg == "watch" for argument in function.args.args):
        return True
    return any(isinstance(node, ast.Assert) for node in ast.walk(function)) or any(
        name.startswith(ASSERTS)
        or ".assert_" in name
        or name in helpers
        or (name == "subprocess.run" and "check=True" in ast.unparse(node))
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        for name in [ast.unparse(node.func)]
    )


def silent_tests(code: str) -> list[str]:
    functions = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef)]
    helpers = {f.name for f in functions if not f.name.startswith("test_") and asserts(f, set())}
    tests = [f for f in functions if f.name.startswith("test_")]
    return [f.name for f in tests if not asserts(f, helpers)]


@pytest.mark.parametrize("name", FILES)
def test_every_test_asserts(name: str):
    assert silent_tests(FILES[name].read_text()) == []


@pytest.mark.parametrize("name", [name for name in FILES if Path(name).name.startswith("test_")])
def test_helpers_are_found_by_pytest(name: str):
    assert "sys.path." + "insert" not in FILES[name].read_text()


def test_one_that_asserts_nothing_is_seen():
    assert silent_tests("def test_it():\n    run()\n") == ["test_it"]
    assert silent_tests("def test_it():\n    check()\ndef check():\n    assert run()\n") == []
