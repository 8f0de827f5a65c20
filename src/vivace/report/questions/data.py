"""Facts about the data that matter to every answer: whole numbers, and groups of a few cells."""

from __future__ import annotations

from vivace.report.page import Check
from vivace.report.words import percent, things
from vivace.runs import Run
from vivace.runs.layout import PROPORTIONS

FEW = 10
NAMED = 6
SOME = 0.001  # share of the values that may be no whole numbers, by rounding
NORMAL = "SysVI"  # models log-normalised values


def data_checks(run: Run) -> list[Check]:
    """What of the data asks for a look; nothing where all is well."""
    return [check for check in (whole(run), few(run)) if check is not None]


def whole(run: Run) -> Check | None:
    """Were the values counts?"""
    share = float(run.summary.get("fractions") or 0)
    likelihood = run.summary.get("settings", {}).get("model", {}).get("gene_likelihood")
    if share <= SOME or run.model.get("model") == NORMAL or likelihood == "normal":
        return None
    counts, genes = (run.summary[f"{k}_per_cell"] for k in ("counts", "genes"))
    logs = counts["median"] < 5 * max(genes["median"], 1) and share > 0.5
    text = f"{percent(share)} of the values above zero are no whole numbers."
    text += " They look log-normalised." if logs else ""
    advice = (
        "The model describes counts of molecules: give it the raw ones (layer=..., or --layer), or take "
        'gene_likelihood="normal" for values that were normalised.'
    )
    return Check(False, "Values were not whole counts", text, advice, grave=logs)


def few(run: Run) -> Check | None:
    """Groups whose rows in any table are mostly chance."""
    if run.has(PROPORTIONS):
        return None
    small = [
        f"{name} of {group['key']} ({n} {things(n, 'cells')})"
        for group in run.summary.get("groups", [])
        for name, n in sorted(group["cells"].items(), key=lambda item: item[1])
        if n < FEW
    ]
    if not small:
        return None
    rest = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
    text = f"Fewer than {FEW} cells: {', '.join(small[:NAMED])}{rest}."
    advice = "What tables and maps say of them is mostly chance: join them with a like group, or drop them."
    return Check(False, "Some groups hold a few cells", text, advice)
