"""What holds for a whole session: the seed, and a state of torch that is vivace's own while it works."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from vivace._arguments import check_names, read_option


@dataclass
class Settings:
    """Defaults that users may change.

    Attributes
    ----------
    seed
        Seed of initial weights, splits, minibatch orders and training, when none is given: a whole
        number from 0 to 2**32 - 1.

    Raises
    ------
    InvalidArgumentError
        If another name is set, or a seed that is none.

    Examples
    --------
    >>> import vivace
    >>> vivace.settings.seed
    0
    """

    seed: int = 0

    def __setattr__(self, name: str, value: object) -> None:
        check_names("vivace.settings", [name], self.__dataclass_fields__)
        super().__setattr__(name, read_option(name, value))


settings = Settings()


@contextmanager
def default_seed(seed: int | None) -> Iterator[None]:
    """Let models and training inside take ``seed`` where none is given; None changes nothing."""
    before = settings.seed
    settings.seed = before if seed is None else seed
    try:
        yield
    finally:
        settings.seed = before


class _Turns:
    """Threads take turns: torch's generators and defaults are there once for all of them."""

    def __init__(self):
        self.lock = threading.RLock()
        self.in_own_session = False


_turns = _Turns()
if hasattr(os, "register_at_fork"):  # a child has none of the threads that it could wait for
    os.register_at_fork(after_in_child=_turns.__init__)  # type: ignore[misc]


@contextmanager
def own_session() -> Iterator[None]:
    """Inside, torch is as it starts, whatever the user's session has set, and one thread works at a time.

    The default type of numbers is float32, the default device the CPU, gradients are recorded, and
    autocast is off. Afterwards, also after an error, all is as it was. Within another one it does
    nothing. Deterministic algorithms stay the user's to ask for: on the CPU all are.

    The one rule of chance: what draws draws from ``vivace.settings.seed``, or the seed it was given.
    The same question has the same answer, another seed has other draws, and the session's generators
    stay as they are.
    """
    with _turns.lock, ExitStack() as stack:
        if not _turns.in_own_session:
            stack.callback(setattr, _turns, "in_own_session", False)
            _turns.in_own_session = True
            _as_torch_starts(stack)
            stack.enter_context(seeded(settings.seed))
        yield


def _as_torch_starts(stack: ExitStack) -> None:
    stack.callback(torch.set_default_dtype, torch.get_default_dtype())
    torch.set_default_dtype(torch.float32)
    stack.enter_context(torch.inference_mode(False))  # which also records gradients
    if torch.get_default_device().type != "cpu":  # only then: the context slows every call
        stack.enter_context(torch.device("cpu"))
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from ``seed`` inside, and leave the user's generators untouched."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with _turns.lock, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
