"""Run every example of README.md and docs/, check every link, and write the pages to docs/_build.

A fenced block marked ``python`` is run, block after block of a page in one namespace, in an empty
folder; a block with ``# doctest: skip`` in its first line is only shown. What fails names its page.

    python docs/build.py            # all pages
    python docs/build.py README.md  # one page
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "_build"
STYLE = ROOT / "src" / "vivace" / "report" / "page.css"
SKIP = "# doctest: skip"
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title} · vivace</title>
<style>{style}
main {{ max-width: 860px; padding-bottom: 64px; }} pre {{ overflow-x: auto; padding: 14px 16px;
background: var(--code); border-radius: 8px; }} code {{ font: .9em/1.6 var(--mono); }}
main h1 {{ margin: 48px 0 20px; }} main h2 {{ margin-top: 44px; }} table {{ display: block;
overflow-x: auto; }} th, td {{ text-align: left !important; }}
</style></head><body><main>{body}</main></body></html>
"""


def main() -> int:
    names = sys.argv[1:]
    pages = [ROOT / name for name in names] or [
        ROOT / "README.md",
        *sorted(ROOT.glob("docs/**/*.md")),
    ]
    markdown = MarkdownIt("commonmark").enable("table")
    wrong = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        start = time.perf_counter()
        problems = [*broken_links(page, text), *failed_examples(text, markdown)]
        print(f"{page.relative_to(ROOT)}: {time.perf_counter() - start:.1f} s", flush=True)
        wrong += [f"{page.relative_to(ROOT)}: {problem}" for problem in problems]
        write(page, text, markdown)
    print("\n".join(wrong) or f"{len(pages)} pages in {OUT.relative_to(ROOT)}")
    return bool(wrong)


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there."""
    links = re.findall(r"\]\(([^)#\s]+)", text)
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    return [f"no file {link}" for link in local if not (page.parent / link).exists()]


def failed_examples(text: str, markdown: MarkdownIt) -> list[str]:
    """What the first example that fails says; the others need it."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as empty, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(empty)
        try:
            for token in markdown.parse(text):
                python = token.type == "fence" and token.info.strip() == "python"
                if python and SKIP not in token.content.splitlines()[0]:
                    exec(compile(token.content, "example", "exec"), namespace)  # noqa: S102
        except Exception as error:  # noqa: BLE001  an example may fail in any way
            return [f"{type(error).__name__}: {error}\n{token.content}"]
        finally:
            os.chdir(before)
    return []


def write(page: Path, text: str, markdown: MarkdownIt) -> None:
    """The page as HTML, with links between pages as they are on disk."""
    at = page.relative_to(ROOT / "docs") if page.is_relative_to(ROOT / "docs") else Path(page.name)
    target = (OUT / at).with_suffix(".html")
    target.parent.mkdir(parents=True, exist_ok=True)
    body = re.sub(r'href="(?!\w+:)(?:docs/)?([^"#]+)\.md', r'href="\1.html', markdown.render(text))
    title = text.lstrip("# ").splitlines()[0]
    style = STYLE.read_text(encoding="utf-8")
    target.write_text(PAGE.format(title=title, style=style, body=body), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
