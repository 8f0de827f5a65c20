"""The picture of the tissue under the spots, where the data bring one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vivace.runs.layout import TISSUE

MOST_PIXELS = 800
QUALITY = 70


def write_tissue(uns: Mapping[str, Any], folder: Path) -> dict[str, float] | None:
    """Write the tissue of ``.uns["spatial"]`` as a small picture.

    Parameters
    ----------
    uns
        Of the spots. Of several libraries there is no one picture, and none is written.
    folder
        Of the tables.

    Returns
    -------
    ``width`` and ``height`` of the picture in units of the spots' coordinates; None without a picture.
    """
    found = picture_of(uns)
    if found is None:
        return None
    try:
        from PIL import Image
    except ImportError:  # it comes with matplotlib, that is, with the report that would show it
        return None
    pixels, scale = found
    pixels = np.asarray(pixels)[..., :3]
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = np.clip(255 * pixels, 0, 255)
    image = Image.fromarray(pixels.astype(np.uint8))
    place = {"width": image.width / scale, "height": image.height / scale}
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    image.save(folder / TISSUE, "JPEG", quality=QUALITY)
    return place


def picture_of(uns: Mapping[str, Any]) -> tuple[Any, float] | None:
    """Pixels (height, width, colours), and pixels per unit of the coordinates."""
    libraries = uns.get("spatial")
    if not isinstance(libraries, Mapping) or len(libraries) != 1:
        return None
    library = next(iter(libraries.values()))
    if not isinstance(library, Mapping):
        return None
    for size in ("lowres", "hires"):
        pixels = library.get("images", {}).get(size)
        scale = library.get("scalefactors", {}).get(f"tissue_{size}_scalef")
        if np.ndim(pixels) == 3 and scale:
            return pixels, float(scale)
    return None
