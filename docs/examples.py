"""Run every example of README.md and of the pages in docs/, and look for links to files that are gone.

A fenced block marked ``python`` is run, block after block of a page in one namespace, in an empty
folder; a block with ``# doctest: skip`` in its first line is only shown. What fails names its page.
Notebooks (docs/tutorials) are run by Sphinx as it writes the site.

    python docs/examples.py            # all pages
    python docs/examples.py README.md  # one page
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
SKIP = "# doctest: skip"
ELSEWHERE = ("_build", "generated", "tutorials")
"""Folders of docs/ whose pages are no pages to run: made by Sphinx, or run by it."""


def main() -> int:
    pages = [ROOT / name for name in sys.argv[1:]] or all_pages()
    markdown = MarkdownIt("commonmark").enable("table")
    wrong = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        start = time.perf_counter()
        problems = [*broken_links(page, text), *failed_examples(text, markdown)]
        print(f"{page.relative_to(ROOT)}: {time.perf_counter() - start:.1f} s", flush=True)
        wrong += [f"{page.relative_to(ROOT)}: {problem}" for problem in problems]
    print("\n".join(wrong) or f"{len(pages)} pages: every example runs, every link leads somewhere")
    return bool(wrong)


def all_pages() -> list[Path]:
    found = sorted((ROOT / "docs").glob("**/*.md"))
    ours = [page for page in found if not set(page.relative_to(ROOT).parts) & set(ELSEWHERE)]
    return [ROOT / "README.md", *ours]


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


if __name__ == "__main__":
    sys.exit(main())
