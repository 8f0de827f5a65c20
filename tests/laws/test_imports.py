"""The rooms import one way only; what is loaded when is in ``test_start.py``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "vivace"

# what each room may import of vivace, besides itself and the words everybody uses
ALLOWED = {
    "runs": set(),
    "kernels": set(),
    "likelihoods": {"kernels"},
    "nn": {"kernels", "likelihoods"},
    "modules": {"kernels", "likelihoods", "nn"},
    "data": {"kernels"},
    "train": {"modules.base", "likelihoods", "kernels"},
    "analysis": {"modules.base", "likelihoods", "kernels", "data", "metrics", "runs"},
    "io": {"data"},
    "datasets": set(),
    "metrics": {"datasets"},
    "report": {"runs"},
    "spatial": set(),
    "models": {"analysis", "train", "io", "modules", "data", "likelihoods", "kernels", "nn"},
    "tables": {"models", "runs", "analysis", "data", "metrics"},
    "fits": {"models", "tables", "runs", "data", "io", "metrics", "train"},
    "cli": {
        *(
            "analysis",
            "data",
            "datasets",
            "fits",
            "io",
            "metrics",
            "models",
            "report",
            "runs",
            "tables",
        ),
        "train",
    },
}
EVERYBODY = {
    "errors",
    "_arguments",
    "_types",
    "_files",
    "_hooks",
    "_lazy",
    "_progress",
    "_mudata",
    "_ranks",
    "_settings",
}
NEVER = {
    "kernels": {"anndata", "pandas", "mudata"},
    "likelihoods": {"anndata", "pandas", "mudata"},
    "nn": {"anndata", "pandas", "mudata"},
    "modules": {"anndata", "pandas", "mudata"},
    "report": {"torch"},
    "runs": {"torch"},
}
EXTRAS = {
    "scanpy",
    "matplotlib",
    "openTSNE",
    "PIL",
    "umap",
    "jinja2",
    "igraph",
    "spatialdata",
    "optuna",
}


def imports(path: Path) -> set[tuple[str, bool]]:
    """Dotted names a file imports, and whether it does so at the top of the file."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    found = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {(alias.name, id(node) in top) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {(f"{node.module}.{alias.name}", id(node) in top) for alias in node.names}
    return found


def files_of(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def test_every_room_has_rules():
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert rooms <= ALLOWED.keys()


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_one_way(room: str):
    wrong = []
    for path in files_of(room):
        for name, _ in imports(path):
            parts = name.split(".")
            if parts[0] != "vivace" or len(parts) == 1:
                continue
            inner = ".".join(parts[1:])
            home = parts[1]
            allowed = home == room or home in EVERYBODY
            allowed |= any(inner == a or inner.startswith(f"{a}.") for a in ALLOWED[room])
            if not allowed:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong, "\n".join(wrong)


def untyped_models(path: Path) -> list[str]:
    """Functions of a file whose argument ``model`` may be anything."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            given = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            kinds = [a.annotation for a in given if a.arg == "model"]
            if any(k is None or re.search(r"\bAny\b", ast.unparse(k)) for k in kinds):
                found.append(f"{path.name}:{node.lineno}")
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED.keys() - {"models"}))
def test_an_argument_that_is_a_model_says_which(room: str):
    """A model that is passed down as "anything" is an arrow upwards that the imports do not show."""
    wrong = [place for path in files_of(room) for place in untyped_models(path)]
    assert not wrong, ", ".join(wrong)


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("def f(model): ...", 1),
        ("def f(model: Any): ...", 1),
        ("def f(*, model: 'Any | None' = None): ...", 1),
        ("f = lambda model: 0", 1),
        ("def f(model: BaseModel, rows: Any): ...", 0),
        ("def f(model: AnyModel, models: Any): ...", 0),
    ],
)
def test_models_of_any_type_are_found(tmp_path: Path, text: str, n: int):
    (tmp_path / "x.py").write_text(text)
    assert len(untyped_models(tmp_path / "x.py")) == n


@pytest.mark.parametrize("room", NEVER)
def test_rooms_stay_free_of(room: str):
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files_of(room)
        for name, _ in imports(path)
        if name.split(".")[0] in NEVER[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_extras_are_imported_only_where_they_are_used():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name} at its top"
        for path in PACKAGE.rglob("*.py")
        for name, at_top in imports(path)
        if at_top and name.split(".")[0] in EXTRAS
    ]
    assert not wrong, "\n".join(wrong)
