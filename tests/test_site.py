"""The site and the package's files say the same thing, and a stranger finds every page."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOT_PAGES = {"_build", "generated", "_templates", "old_scvi_model"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

QUESTIONS = {
    "how many latent dimensions": "howto/latent_dimensions.md",
    "large data": "howto/large_data.md",
    "citing": "howto/cite.md",
    "tuning": "howto/tuning.md",
    "logging": "howto/logging.md",
    "Mac and Windows": "howto/mac_windows.md",
    "R": "howto/r.md",
    "SpatialData": "howto/spatialdata.md",
    "what train() takes": "api/training.md",
    "GPU": "howto/gpu.md",
    "two batch keys": "howto/two_batch_keys.md",
    "continuing": "howto/continuing.md",
    "resuming": "howto/resuming.md",
    "seeds": "howto/seeds.md",
    "save and share": "howto/save_and_share.md",
}


def pages() -> set[str]:
    found = (path.relative_to(DOCS) for path in DOCS.glob("**/*.md"))
    return {str(path) for path in found if not NOT_PAGES & set(path.parts)}


def leads_to(page: str) -> set[str]:
    """Pages that a reader of a page can click on: links, cards, and entries of its tables of contents."""
    text = (DOCS / page).read_text()
    entries = [
        f"{line}.md"
        for toc in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL)
        for line in toc.splitlines()
        if line and not line.startswith(":")
    ]
    cards = [f"{card}.md" for card in re.findall(r":link: (\S+)", text)]
    links = re.findall(r"\]\(([^)#\s:]+\.md)", text)
    reached = {(DOCS / page).parent / link for link in (*entries, *cards, *links)}
    return {str(p.resolve().relative_to(DOCS)) for p in reached if p.resolve().is_relative_to(DOCS)}


def within(clicks: int) -> set[str]:
    reached = {"index.md"}
    for _ in range(clicks):
        reached |= {there for page in reached & pages() for there in leads_to(page)}
    return reached


def test_every_page_is_at_most_two_clicks_from_the_start():
    assert within(2) >= pages(), f"put into a table of contents: {sorted(pages() - within(2))}"


@pytest.mark.parametrize("question", QUESTIONS)
def test_everyday_questions_have_a_page(question: str):
    assert QUESTIONS[question] in within(2)


def test_no_page_leads_nowhere():
    gone = {(page, to) for page in pages() for to in leads_to(page) if not (DOCS / to).is_file()}
    assert not gone


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CITATION.cff", r"^version: (.+)$"),
        ("packaging/scverse/meta.yaml", r"^version: (.+)$"),
        ("packaging/conda/meta.yaml", r'set version = "(.+)"'),
    ],
)
def test_files_of_the_package_name_its_version(file: str, pattern: str):
    found = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == PROJECT["version"]


def test_the_site_offers_this_version():
    versions = json.loads((DOCS / "_static" / "versions.json").read_text())
    assert PROJECT["version"] in {entry["version"] for entry in versions}


def test_the_conda_recipe_asks_for_what_pip_does():
    recipe = (ROOT / "packaging" / "conda" / "meta.yaml").read_text()
    run = recipe.split("  run:\n")[1].split("\n\n")[0]
    names = {
        line.strip(" -").replace(" ", "").replace("pytorch", "torch") for line in run.splitlines()
    }
    assert names == {*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"}


def test_each_supported_python_is_tried_in_public():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    named = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if ":: Python :: 3." in c]
    assert named
    for version in named:
        assert f'python: "{version}"' in workflow
