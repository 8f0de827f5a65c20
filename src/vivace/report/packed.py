"""Arrays as text in a page: little-endian, deflated, base64. The page's script reads them back."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np


def packed(values: np.ndarray) -> str:
    """Numbers of one kind as text.

    Examples
    --------
    >>> import numpy as np
    >>> len(packed(np.zeros(1000, dtype=np.uint8))) < 40
    True
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return packed_bytes(little.tobytes())


def packed_text(text: str) -> str:
    """Text as shorter text."""
    return packed_bytes(text.encode("utf-8"))


def packed_bytes(content: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def script_json(content: Any) -> str:
    r"""JSON that can stand inside a script element, whatever names it holds.

    Examples
    --------
    >>> script_json({"name": "</script>&"})
    '{"name":"\\u003c/script\\u003e\\u0026"}'
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
