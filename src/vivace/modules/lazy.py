"""Outputs that are computed when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


class LazyOutputs(Mapping):
    """A read-only dict whose values are computed once, on first use.

    Parameters
    ----------
    **values
        Functions without arguments.

    Examples
    --------
    >>> outputs = LazyOutputs(two=lambda: 1 + 1)
    >>> outputs["two"], list(outputs)
    (2, ['two'])
    """

    def __init__(self, **values: Callable[[], Any]):
        self._todo = values
        self._done: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._done:
            self._done[key] = self._todo[key]()
        return self._done[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._todo)

    def __len__(self) -> int:
        return len(self._todo)
