"""The page: whole, self-contained, honest about what is missing, safe with hostile names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vivace.errors import MissingDependencyError, ModelFileError
from vivace.report import write_report

VOID = {"meta", "input", "wbr", "path", "use", "image", "link", "br", "rect", "line", "circle"}


class Balanced(HTMLParser):
    """Collects tags that are closed out of order, ids and references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href"} and not value.startswith(("#", "data:")):
                self.outside.append(value)

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


def parse(page: Path) -> Balanced:
    parser = Balanced()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_the_page_is_one_whole_file(make_run):
    page = write_report(make_run(n_cells=12))
    parsed = parse(page)
    assert parsed.wrong == []
    assert parsed.open == []
    assert parsed.outside == []
    text = page.read_text(encoding="utf-8")
    assert "<script src" not in text
    assert "@import" not in text
    for title in ("At a glance", "The map of cells", "Training", "The data", "Settings"):
        assert title in text


def test_figures_take_their_ink_from_the_page(make_run):
    text = write_report(make_run()).read_text(encoding="utf-8")
    assert "var(--ink)" in text
    for placeholder in ("#010203", "#040506", "#070809"):
        assert placeholder not in text


def test_the_same_run_gives_the_same_page(make_run):
    run = make_run()
    first = write_report(run).read_bytes()
    assert write_report(run, out=run / "again.html").read_bytes() == first


@pytest.mark.parametrize(
    ("table", "title"),
    [("latent", "The map of cells"), ("history", "Reconstruction"), ("genes", "Variability")],
)
def test_a_section_is_shown_iff_its_table_is_there(make_run, table, title):
    run = make_run()
    assert title in write_report(run).read_text(encoding="utf-8")
    (run / "tables" / f"{table}.csv").unlink()
    assert title not in write_report(run).read_text(encoding="utf-8")


def test_names_cannot_inject_markup(make_run):
    hostile = "<script>alert(1)</script>"
    text = write_report(make_run(names=[hostile, "a & b"])).read_text(encoding="utf-8")
    assert hostile not in text
    assert "&lt;script&gt;" in text


def test_a_write_that_fails_leaves_the_old_page(make_run, monkeypatch):
    run = make_run()
    page = write_report(run)
    before = page.read_bytes()
    files = sorted(run.iterdir())

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(run)
    assert page.read_bytes() == before
    assert sorted(run.iterdir()) == files


def test_a_new_folder_is_made_for_out(make_run, tmp_path):
    page = write_report(make_run(), out=tmp_path / "deep" / "page.html")
    assert page.is_file()


def test_the_report_does_not_import_torch(make_run):
    code = (
        "import sys; from vivace.report import write_report; "
        f"write_report({str(make_run())!r}); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("module", "names", "n_cells"),
    [("jinja2", "jinja2", 5), ("matplotlib", "matplotlib", 5), ("openTSNE", "openTSNE", 20)],
)
def test_a_missing_extra_says_what_to_install(make_run, monkeypatch, module, names, n_cells):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf'"{names}".*pip install "vivace\[report\]"'):
        write_report(make_run(n_cells=n_cells))


def no_folder(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))


def no_model(run: Path) -> None:
    (run / "model.json").unlink()


def no_tables(run: Path) -> None:
    (run / "tables" / "summary.json").unlink()


def cut_summary(run: Path) -> None:
    path = run / "tables" / "summary.json"
    path.write_text(path.read_text()[:40])


def list_summary(run: Path) -> None:
    (run / "tables" / "summary.json").write_text("[]")


def empty_history(run: Path) -> None:
    (run / "tables" / "history.csv").write_text("")


def other_genes(run: Path) -> None:
    (run / "tables" / "genes.csv").write_text("gene,observed_mean\na,1\n")


def lost_number(run: Path) -> None:
    path = run / "tables" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["n_cells"]
    path.write_text(json.dumps(summary))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_folder, "was not found"),
        (no_model, "no model.json"),
        (no_tables, "no tables to report on"),
        (cut_summary, "cannot be read as JSON"),
        (list_summary, "should hold a JSON object"),
        (empty_history, "cannot be read as a table"),
        (other_genes, 'lacks the column "model_mean"'),
        (lost_number, 'lacks "n_cells"'),
    ],
)
def test_a_damaged_run_folder_is_named(make_run, damage, message):
    run = make_run()
    damage(run)
    with pytest.raises(ModelFileError, match=message):
        write_report(run)


def brightness(colour: str) -> float:
    """Relative luminance of a colour like #0b6a70 (WCAG 2.1)."""
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def palettes() -> list[dict[str, str]]:
    """Colours of the style sheet: light, dark, print."""
    style = (Path(write_report.__code__.co_filename).parent / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in blocks]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("ink", ["ink", "soft", "accent", "good", "look", "bad"])
def test_words_stand_out_from_their_ground(number, ink):
    colours = palettes()[number]
    for ground in ("paper", "card"):
        light, dark = sorted([brightness(colours[ink]), brightness(colours[ground])], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"--{ink} on --{ground}"
