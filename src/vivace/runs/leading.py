"""Which genes speak for a group of cells: the order in which a comparison's genes are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def leading_genes(table: pd.DataFrame, n: int) -> list[str]:
    """Genes that are up in a group: those that are marked, by size, then the others by certainty.

    Probabilities of marked genes all lie near 1, so that their order among them says little. The size
    is one that most cells reach: the median less a standard deviation.

    Parameters
    ----------
    table
        Rows of ``differential.csv`` of one group.
    n
        The most genes.
    """
    up = table[table["lfc_median"] > 0]
    up = up.assign(reached=up["lfc_median"] - up["lfc_std"])
    marked = up[up["found"].astype(bool)].sort_values("reached", ascending=False)
    others = up[~up["found"].astype(bool)].sort_values(["proba_de", "reached"], ascending=False)
    return [str(g) for g in [*marked.index, *others.index][:n]]


def taken_in_turn(lists: list[list[str]], n: int) -> list[str]:
    """The first of each list, then the second of each, every name once, ``n`` at most.

    Examples
    --------
    >>> taken_in_turn([["a", "b"], ["a", "c"]], 3)
    ['a', 'b', 'c']
    """
    longest = max(map(len, lists), default=0)
    in_turn = (names[i] for i in range(longest) for names in lists if i < len(names))
    return list(dict.fromkeys(in_turn))[:n]
