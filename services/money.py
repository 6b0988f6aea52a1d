"""Amounts for people. Whatever calculates uses whole minor units and the currency's code.

How many digits a minor unit has is in ISO 4217: two for most currencies, here are the others.
"""

from __future__ import annotations

_DIGITS = {
    **dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    ),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
}


def major_units(minor: int | None, currency: str | None) -> float | None:
    """120050 USD is 1200.5; None when either is not known."""
    if minor is None or currency is None:
        return None
    digits = _DIGITS.get(currency, 2)
    return round(minor / float(10**digits), digits)


def amount(minor: int | None, currency: str | None) -> str:
    """120050 USD is `1200.50 USD`; empty when either is not known."""
    if minor is None or currency is None:
        return ""
    digits = _DIGITS.get(currency, 2)
    whole, rest = divmod(minor, 10**digits)
    return f"{whole}.{rest:0{digits}d} {currency}" if digits else f"{whole} {currency}"
