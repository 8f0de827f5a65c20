"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

python packaging/lowest.py > lowest.txt
"""

from __future__ import annotations

import tomllib
from pathlib import Path

USERS = ("report", "demo", "clusters")
"""Extras of users; the tools of ``dev`` and ``docs`` may be any version."""

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
wanted = [*project["dependencies"]]
for extra in USERS:
    wanted += project["optional-dependencies"][extra]
print("\n".join(line.replace(">=", "==") for line in wanted if ">=" in line))
