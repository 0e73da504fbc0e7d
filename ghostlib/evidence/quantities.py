"""The numbers of a comparison as text, with a sign, a unit and an interval; and what weakens a verdict."""

from __future__ import annotations

import math

_FORMS = {"points": "{:+z.2f}", "points a point": "{:+z.3f}", "×": "{:.2f}×", "ρ": "{:.2f}", "M": "{:.4g} M",
          "%": "{:.2f} %"}


def counted(count: int, what: str) -> str:
    """`1 session`, `2 sessions`, `2 losses`."""
    return f"{count} {what}{('es' if what.endswith('s') else 's') * (count != 1)}"


def weakness(verdict: str, but: str) -> str:
    """What stands behind the word of a verdict where something must be known of a claim that holds."""
    return (f" ({but})" if verdict == "exact" else f", but {but}") if but else ""


def number(value: float, unit: str) -> str:
    """A value in its unit; a dash for NaN. Of its six leading digits, which files keep, so that all round alike.

    A difference that would be rounded to zero has a third decimal, if that tells on which side of it it lies.
    """
    if math.isnan(value):
        return "—"
    value = float(f"{value:.6g}")
    form = "{:+z.3f}" if unit == "points" and 0.0005 <= abs(value) < 0.005 else _FORMS[unit]
    return form.format(value).replace("-", "−")


def with_interval(value: float, low: float, high: float, unit: str) -> str:
    """A value and, if it has one, its interval in brackets."""
    return number(value, unit) + ("" if math.isnan(low) else f" [{number(low, unit)}, {number(high, unit)}]")


def nats(value: float, low: float, high: float) -> str:
    """A difference of log-losses with its interval."""
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}] nats".replace("-", "−")
