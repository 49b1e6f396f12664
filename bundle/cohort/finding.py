"""One thing that a check of a datalist found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that a check of a datalist found.

    Args:
        severity: `error` (results would be wrong), `warning` (they may be) or `note` (a number to report).
        check: Short name of what was looked at.
        sentence: What was found, and what to do.
        auc: ROC-AUC with which something other than the image tells the label, where that was measured.
        p: p value, corrected for what else was tried.
        participants: Everybody concerned; the sentence names the first few.
    """

    severity: str
    check: str
    sentence: str
    auc: float | None = None
    p: float | None = None
    participants: tuple[str, ...] = ()
