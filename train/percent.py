"""Shares as people read them."""

from __future__ import annotations


def percent(share: float, decimals: int = 2) -> str:
    """Give a share in percent, never rounded up to all of them: 100% says that there is no exception."""
    text = f"{share:.{decimals}%}"
    return f"{100 - 10**-decimals:.{decimals}f}%" if share < 1 and float(text[:-1]) >= 100 else text
