"""How Sphinx writes the site: ``make docs``."""

from __future__ import annotations

import re
from importlib.metadata import version as installed
from typing import Any

from sphinx.application import Sphinx

project = "vivace"
author = "The vivace developers"
copyright = "The vivace developers, BSD-3-Clause"  # noqa: A001
release = version = installed("vivace")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
root_doc = "index"

# pages
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

# tutorials: run anew when their cells change (all after `make clean`); a cell that fails fails the site
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_excludepatterns = ["howto/*"]
nb_merge_streams = True
nb_output_stderr = "remove"

# reference, from the numpy docstrings
autosummary_generate = True
autodoc_typehints = "none"  # shapes, units and defaults stand in the docstrings
autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_member_order = "groupwise"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
templates_path = ["_templates"]

# looks
html_theme = "sphinx_book_theme"
html_title = f"vivace {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": False,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "switcher": {"json_url": "_static/versions.json", "version_match": release},
    "check_switcher": False,
    "primary_sidebar_end": ["version-switcher"],
    "navbar_persistent": [],  # the search stands in the sidebar
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

OUTSIDE = {
    "benchmarks/README": "benchmarks",
    "CHANGELOG": "changelog",
    "CONTRIBUTING": "contributing",
}
"""Files of the repository that pages link to, and the page of the site that shows each."""


def to_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Lead links out of docs/ (``../CHANGELOG.md``) to the page that includes the file."""
    files = "|".join(OUTSIDE)
    source[0] = re.sub(
        rf"\]\((?:\.\./)+({files})\.md", lambda m: f"](/{OUTSIDE[m[1]]}.md", source[0]
    )


WIRING = {
    *("bound_options", "cells_type", "compares_groups", "default_train_size", "encoder_module"),
    *("from_parts", "latent_spaces", "likelihoods", "loss_weights", "module_class", "recipes"),
    *("simulates_counts", "split_type"),
}
"""What models are put together from, which is no question of a user."""


def not_for_users(app: Sphinx, kind: str, name: str, member: Any, skip: bool, options: Any) -> bool:
    """Leave out what a class only inherits from torch, and the wiring of models."""
    home = getattr(member, "__module__", None) or getattr(
        getattr(member, "fget", None), "__module__", ""
    )
    return skip or home.startswith("torch") or name in WIRING


def setup(app: Sphinx) -> None:
    app.connect("source-read", to_pages)
    app.connect("autodoc-skip-member", not_for_users)
