"""Amounts of money for people to read. All calculations use integer minor units and a currency code.

ISO 4217 gives most currencies two decimal digits. `_DIGITS` has the currencies with another number.
"""

from __future__ import annotations

_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF"), 0),
    **dict.fromkeys(("UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def major_units(minor: int | None, currency: str | None) -> float | None:
    """Return the amount as a number: 120050 USD is 1200.5. Returns None if an argument is None."""
    if minor is None or currency is None:
        return None
    digits = _DIGITS.get(currency, 2)
    return round(minor / float(10**digits), digits)


def amount(minor: int | None, currency: str | None) -> str:
    """Return the amount as text: 120050 USD is `1200.50 USD`. Returns "" if an argument is None."""
    if minor is None or currency is None:
        return ""
    digits = _DIGITS.get(currency, 2)
    major, rest = divmod(minor, 10**digits)
    return f"{major}.{rest:0{digits}d} {currency}" if digits else f"{major} {currency}"
