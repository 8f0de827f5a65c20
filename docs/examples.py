"""Run every example of README.md and of the pages in docs/, and look for links to files that are gone.

A fenced block marked ``python`` is run, block after block of a page in one namespace, in an empty
folder; a block with ``# doctest: skip`` in its first line is only shown. What fails names its page.
All pages are shared out among as many processes as there are cores. The tutorials (docs/tutorials) are
notebooks and run by ``docs/notebooks.py``.

    python docs/examples.py            # all pages
    python docs/examples.py README.md  # one page
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
SKIP = "# doctest: skip"
ELSEWHERE = ("_build", "generated", "tutorials")
"""Folders of docs/ whose pages are no pages to run: made by Sphinx, or notebooks."""


def main() -> int:
    pages = [ROOT / name for name in sys.argv[1:]]
    if not pages:
        return shared_out(all_pages())
    wrong = [problem for page in pages for problem in problems_of(page)]
    print("\n".join(wrong) or f"{len(pages)} pages: every example runs, every link leads somewhere")
    return bool(wrong)


def shared_out(pages: list[Path]) -> int:
    """Run pages in processes beside each other; each ends as a user's does. Whether one found a problem."""
    n = min(os.cpu_count() or 1, len(pages))
    parts = [map(str, pages[i::n]) for i in range(n)]
    started = [subprocess.Popen([sys.executable, __file__, *part]) for part in parts]
    ended = [process.wait() for process in started]
    return any(ended)


def problems_of(page: Path) -> list[str]:
    """Run one page, and say how long it took: what of it was the processor's, and what its clock's."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT)
    clock, processor = time.perf_counter(), time.process_time()
    problems = [*broken_links(page, text), *failed_examples(text)]
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    print(f"{name}: {processor:.1f} s of {clock:.1f} s", flush=True)
    return [f"{name}: {problem}" for problem in problems]


def all_pages() -> list[Path]:
    found = sorted((ROOT / "docs").glob("**/*.md"))
    ours = [page for page in found if not set(page.relative_to(ROOT).parts) & set(ELSEWHERE)]
    return [ROOT / "README.md", *ours]


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there."""
    links = re.findall(r"\]\(([^)#\s]+)", text)
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    return [f"no file {link}" for link in local if not (page.parent / link).exists()]


def failed_examples(text: str) -> list[str]:
    """What the first example that fails says; the others need it."""
    markdown = MarkdownIt("commonmark").enable("table")
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
