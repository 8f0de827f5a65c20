"""Expression of some genes in the cells of a map: one byte a value, for a page that stays small."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from vivace.errors import ModelFileError
from vivace.runs.layout import EXPRESSION, TABLES

LEVELS = 255


@dataclass(frozen=True)
class Expression:
    """Expression of G genes in N cells.

    Attributes
    ----------
    genes
        G names, the first asked for by the user, then the most telling first.
    unit
        What the numbers are, in words.
    low, top
        (G,) float32: the values that 0 and 255 stand for.
    values
        (G, N) uint8.
    """

    genes: list[str]
    unit: str
    low: np.ndarray
    top: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, genes: list[str], unit: str, values: np.ndarray) -> Expression:
        """Expression from numbers (N, G); what is beyond the highest 0.1 % of a gene is cut to it.

        Examples
        --------
        >>> import numpy as np
        >>> found = Expression.of(["CD3D"], "log2", np.array([[0.0], [1.0], [2.0]]))
        >>> found.values.tolist(), found.top.tolist()
        ([[0, 128, 255]], [2.0])
        """
        by_gene = np.nan_to_num(np.asarray(values, dtype=np.float32).T)
        low = np.minimum(by_gene.min(axis=1), 0)
        top = np.quantile(by_gene, 0.999, axis=1, method="higher")
        span = np.where(top > low, top - low, 1)[:, None]
        level = np.clip((by_gene - low[:, None]) / span, 0, 1) * LEVELS
        whole = np.rint(level).astype(np.uint8)
        return cls(list(genes), unit, low.astype(np.float32), top.astype(np.float32), whole)

    def write(self, folder: Path) -> None:
        """Write into the folder of the tables."""
        np.savez_compressed(
            folder / EXPRESSION,
            genes=np.array(self.genes, dtype=str),
            unit=np.array(self.unit),
            low=self.low,
            top=self.top,
            values=self.values,
        )

    @classmethod
    def read(cls, run: Path) -> Expression | None:
        """Expression of a run folder, or None where it has none.

        Raises
        ------
        ModelFileError
            The file is damaged.
        """
        path = run / TABLES / EXPRESSION
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as found:
                genes = [str(name) for name in found["genes"]]
                return cls(genes, str(found["unit"]), *(found[k] for k in ("low", "top", "values")))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            msg = f'"{path}" cannot be read as expression of genes ({error})'
            raise ModelFileError(msg) from error
