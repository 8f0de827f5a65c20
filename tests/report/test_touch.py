"""The page in a browser: what is pointed at, searched, selected and saved. Skipped without Chromium."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vivace.report import write_report
from vivace.runs.expression import Expression

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

N = 150
HOSTILE = '<b>&"kind", ' + "x" * 200
GENES = ["CD3D", "MS4A1", 'odd,"<gene>&']
BRIGHT, DARK = np.array([253, 231, 37]), np.array([68, 1, 84])


@pytest.fixture(scope="module")
def run(tmp_path_factory, write_invented) -> Path:
    """Cells in two latent dimensions, so that the map is where the table says."""
    place = tmp_path_factory.mktemp("touch") / "run"
    folder = write_invented(place, n_cells=N, n_latent=2, names=["T", "B", HOSTILE])
    tables = folder / "tables"
    cells = pd.read_csv(tables / "latent.csv", index_col=0)
    cells["obs:counts per cell, log10"] = np.log10(np.arange(N) + 500.0)
    cells.to_csv(tables / "latent.csv")
    late = np.arange(N) > N / 2
    values = np.stack([late, ~late, np.zeros(N)], axis=1)
    Expression.of(GENES, "denoised", values).write(tables)
    rng = np.random.default_rng(0)
    rows = {
        "group1": np.repeat(["T", HOSTILE], len(GENES)),
        "proba_de": rng.random(6),
        "lfc_median": rng.normal(size=6),
        "lfc_std": rng.random(6),
        "found": rng.random(6) > 0.5,
    }
    table = pd.DataFrame(rows, index=pd.Index(GENES * 2, name="gene"))
    table.to_csv(tables / "differential.csv", float_format="%.5g")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def opened(browser, run):
    """The page at 1,280 pixels, with what it asked for and what went wrong."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda line: page.wrong.append(line.text) if line.type == "error" else None)
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("html[data-live]", timeout=60_000)
    yield page
    page.close()


def canvases(page) -> Any:
    return page.locator("#latent canvas")


def place_of(page, run: Path, cell: int) -> tuple[float, float]:
    """Where a cell should be drawn, in pixels of the canvas: the map fills nine tenths of it."""
    table = pd.read_csv(run / "tables" / "latent.csv", index_col=0)
    plane = table[["latent_0", "latent_1"]].to_numpy() * [1, -1]
    box = canvases(page).first.bounding_box()
    size = np.array([box["width"], box["height"]])
    span = np.ptp(plane, axis=0)
    scale = 0.9 * (size / span).min()
    x, y = size / 2 + (plane[cell] - plane.min(axis=0) - span / 2) * scale
    return float(x), float(y)


def pixel(page, which: int, place: tuple[float, float]) -> np.ndarray:
    found = (
        canvases(page)
        .nth(which)
        .evaluate(
            "(canvas, [x, y]) => { const r = canvas.width / canvas.clientWidth;"
            "return [...canvas.getContext('2d').getImageData(x * r, y * r, 1, 1).data]; }",
            list(place),
        )
    )
    return np.array(found)


def outermost(run: Path) -> int:
    """A cell that no other covers."""
    table = pd.read_csv(run / "tables" / "latent.csv", index_col=0)
    plane = table[["latent_0", "latent_1"]].to_numpy()
    distance = np.linalg.norm(plane[:, None] - plane, axis=2)
    np.fill_diagonal(distance, np.inf)
    return int(distance.min(axis=1).argmax())


def saved(page, action) -> str:
    with page.expect_download() as download:
        action()
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_nothing_went_wrong_and_no_request_leaves_the_page(opened):
    assert opened.wrong == []
    assert {url.split(":")[0] for url in opened.asked} <= {"file", "data", "blob"}


def test_hover_shows_the_cell_its_labels_and_its_counts(opened, run):
    cell = outermost(run)
    canvases(opened).first.scroll_into_view_if_needed()
    canvases(opened).first.hover(position=dict(zip("xy", place_of(opened, run, cell), strict=True)))
    words = opened.locator("#latent .tip").first.inner_text()
    row = pd.read_csv(run / "tables" / "latent.csv", index_col=0).iloc[cell]
    assert row.name in words.split()
    assert row["obs:batch"] in words
    assert f"counts: {cell + 500:,}" in words


def test_a_gene_colours_the_map_by_its_values(opened, run):
    cell, gene = outermost(run), opened.locator("#latent input").first
    for name, high in (("cd3d", cell > N / 2), ("MS4A1", cell <= N / 2)):
        gene.fill(name)
        gene.press("Enter")
        title = opened.locator("#latent figure.map h3").first
        opened.wait_for_function(
            "name => document.querySelector('#latent figure.map h3').textContent.endsWith(name)",
            arg=name.upper(),
        )
        assert title.inner_text().endswith(name.upper())
        opened.mouse.move(0, 0)
        opened.wait_for_timeout(100)
        colour = pixel(opened, 0, place_of(opened, run, cell))[:3]
        far = [np.abs(colour - end).sum() for end in (DARK, BRIGHT)]
        assert (far[1] < far[0]) == high


def test_a_gene_that_is_not_there_says_how_to_get_it(opened):
    gene = opened.locator("#latent input").first
    gene.fill("XIST")
    gene.press("Enter")
    assert "--genes XIST" in opened.locator("#latent .status").inner_text()


def test_a_selection_carries_over_to_the_other_map(opened, run):
    second = canvases(opened).nth(1)
    picture = "canvas => canvas.toDataURL()"
    before = second.evaluate(picture)
    key = opened.locator("#latent figure.map").nth(1).locator(".key").first
    key.click()
    opened.wait_for_timeout(150)
    assert second.evaluate(picture) != before
    table = pd.read_csv(run / "tables" / "latent.csv", index_col=0)
    batch = table["obs:batch"].value_counts()
    assert (
        f"{batch.iloc[0]} of {N} cells selected" in opened.locator("#latent .status").inner_text()
    )
    text = saved(opened, opened.get_by_text("Save the selected (CSV)").click)
    names = [row[0] for row in csv.reader(io.StringIO(text))][1:]
    assert set(names) == set(table.index[table["obs:batch"] == batch.index[0]])
    opened.get_by_text("Clear the selection").click()
    opened.wait_for_timeout(150)
    assert second.evaluate(picture) == before


def test_zoom_moves_cells_apart_and_the_whole_map_comes_back(opened):
    first = canvases(opened).first
    picture = "canvas => canvas.toDataURL()"
    before = first.evaluate(picture)
    first.focus()
    first.press("+")
    opened.wait_for_timeout(150)
    assert first.evaluate(picture) != before
    first.press("0")
    opened.wait_for_timeout(150)
    assert first.evaluate(picture) == before


def test_search_finds_a_row_and_csv_saves_the_numbers_of_the_run(opened, run):
    table = opened.locator("#differential-rows")
    with (run / "tables" / "differential.csv").open(encoding="utf-8") as file:
        lines = list(csv.reader(file))
    everything = saved(opened, table.get_by_text("Save as CSV").click)
    found = list(csv.reader(io.StringIO(everything)))
    assert found[0] == lines[0]
    assert sorted(found) == sorted(lines)
    table.locator("input").fill("odd,")
    assert table.locator("tbody tr").count() == 2
    assert table.locator("tbody th").first.inner_text() == GENES[2]
    table.locator("input").fill("")
    table.get_by_role("button", name="probability", exact=True).click()
    shown = [float(cell) for cell in table.locator("tbody td:nth-child(3)").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize("kind", ["SVG", "PNG"])
def test_every_picture_can_be_saved(opened, kind):
    pictures = opened.locator("figure:visible")
    for i in (0, pictures.count() - 1):
        with opened.expect_download() as download:
            pictures.nth(i).get_by_text(kind, exact=True).click()
        content = Path(download.value.path()).read_bytes()
        assert content.startswith(b"<svg" if kind == "SVG" else b"\x89PNG")
        assert b"var(--" not in content


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(browser, run, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("html[data-live]", timeout=60_000)
    wide = page.evaluate("document.documentElement.scrollWidth")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 19)"
    page.close()
    assert wide <= width
    assert dark is (scheme == "dark")


def test_without_scripts_the_page_shows_pictures(browser, run):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((run / "report.html").as_uri())
    assert page.locator("#latent figure.still").first.is_visible()
    assert not page.locator(".explorer").first.is_visible()
    assert not page.locator(".searchable").first.is_visible()
    context.close()


def test_names_are_text_in_a_living_page(opened):
    assert opened.locator("#latent .explorer b").count() == 0
    keys = opened.locator("#latent .key span").all_inner_texts()
    assert HOSTILE in keys
