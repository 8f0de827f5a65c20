"""The one thing that differs between versions of mudata."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def columns_stay() -> AbstractContextManager[object]:
    """Context in which a MuData leaves the columns of its modalities where they are.

    mudata before 0.4 copies them to the object itself as it is made or read, and warns that this
    will end. From 0.4 on they stay unless the user wants them copied, and there is nothing to switch.
    """
    import mudata

    switch = getattr(mudata, "set_options", None)
    return nullcontext() if switch is None else switch(pull_on_update=False)
