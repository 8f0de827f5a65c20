"""The public names and signatures are facts that a test holds."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import pytest

import vivace
from vivace import models, modules

ROOT = Path(__file__).parents[2]
API = Path(os.environ.get("VIVACE_SHARED_SPEC", ROOT.parent / "shared" / "spec")) / "api.json"


def contract() -> dict:
    if not API.is_file():
        return {}
    found = json.loads(API.read_text())
    return {name: entry for name, entry in found.items() if name != "_meta"}


CONTRACT = contract()
BUILT = [name for name in CONTRACT if hasattr(modules, name)]


def test_every_public_name_resolves():
    for name in vivace.__all__:
        assert getattr(vivace, name) is not None
    assert dir(vivace) == sorted([*vivace.__all__, "__version__"])


def test_models_stand_in_one_list():
    others = {"MODELS", "import_model", "load"}
    assert set(models.__all__) == {*models.HOMES, *others}
    for name, home in models.HOMES.items():
        assert getattr(vivace, name) is getattr(models, name) is models.MODELS[name]
        assert models.MODELS[name].__module__ == home
    assert set(models.HOMES) <= set(vivace.__all__)


def test_settings_are_the_object_whatever_was_imported_first():
    assert isinstance(vivace.settings.seed, int)


def test_unknown_names_raise_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        vivace.nonsense  # noqa: B018


def test_unknown_models_raise_attribute_error():
    with pytest.raises(AttributeError, match=r"vivace\.models.*nonsense"):
        models.nonsense  # noqa: B018


def test_the_contract_is_there():
    if not CONTRACT:
        pytest.skip(f"{API} is missing (set VIVACE_SHARED_SPEC to the folder with it)")
    assert "VAE" in BUILT


def parameters(function) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def agree(found: list[inspect.Parameter], wanted: list[dict]) -> None:
    """The wanted parameters come first, in order, with their defaults; more may follow by keyword."""
    positional = [w for w in wanted if w.get("kind", "").startswith("var") is False]
    have = {p.name: p for p in found}
    order = [w["name"] for w in positional if w.get("kind") != "keyword_only"]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert [p.name for p in found if p.kind in kinds] == order
    for w in positional:
        parameter = have[w["name"]]
        if w["required"]:
            assert parameter.default is inspect.Parameter.empty, w["name"]
        else:
            default = parameter.default
            assert (list(default) if isinstance(default, tuple) else default) == w["default"], w[
                "name"
            ]


@pytest.mark.parametrize("name", BUILT)
def test_constructor(name: str):
    entry = CONTRACT[name]
    wanted = entry.get("constructor_recommended") or entry["constructor"]
    agree(parameters(getattr(modules, name).__init__), wanted)


@pytest.mark.parametrize(
    ("name", "method"), [(n, m) for n in BUILT for m in CONTRACT[n].get("methods", {})]
)
def test_method(name: str, method: str):
    entry = CONTRACT[name]["methods"][method]
    agree(parameters(getattr(getattr(modules, name), method)), entry["params"])
    static = isinstance(inspect.getattr_static(getattr(modules, name), method), staticmethod)
    assert static == entry["static"]


@pytest.mark.parametrize("name", BUILT)
def test_everything_public_is_documented(name: str):
    assert inspect.getdoc(getattr(modules, name))
