"""Run the tutorials that changed, one a core, and keep what they gave where Sphinx finds it.

python docs/notebooks.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor

DOCS = Path(__file__).parent
RAN = DOCS / "_build" / ".jupyter_cache"
"""Where myst-nb looks, in the folder above that of the site."""
SECONDS_A_CELL = 300


def main() -> int:
    cache = get_cache(RAN)
    tutorials = [page for page in (DOCS / "tutorials").glob("*.md") if page.stem != "index"]
    for page in tutorials:
        cache.add_nb_to_project(str(page), read_data={"name": "myst_nb_md", "type": "plugin"})
    ran = load_executor("local-parallel", cache).run_and_cache(timeout=SECONDS_A_CELL)
    for name in ran.excepted:
        print(cache.get_project_record(name).traceback)
    failed = [*ran.excepted, *ran.errored]
    print(f"{len(ran.succeeded)} tutorials ran anew, {len(failed)} failed", *failed, sep="\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
