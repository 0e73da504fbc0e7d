"""What can be said of a claim."""

from __future__ import annotations

from enum import StrEnum

from ghostlib.paper.claims import Rule


class Verdict(StrEnum):
    """What the measurements say of a claim, in the order in which verdicts are shown.

    Attributes:
        sign: stands beside the word, so that no reader depends on the colour alone.
        color: blue, bluish green and vermilion of Okabe and Ito, which the colour-blind tell apart, for what is found.
        precedence: of the verdicts on a claim's comparisons the one with the lowest is the claim's.
    """

    EXACT = "exact", "=", "#0072b2", 5
    CONFIRMED = "confirmed", "✓", "#0072b2", 4
    BOUNDED = "bounded", "±", "#009e73", 3
    CONTRADICTED = "contradicted", "✗", "#d55e00", 0
    INCONCLUSIVE = "inconclusive", "?", "#555555", 2
    NOT_ATTEMPTED = "not attempted", "–", "#949494", 1

    sign: str
    color: str
    precedence: int

    def __new__(cls, word: str, sign: str, color: str, precedence: int) -> Verdict:
        verdict = str.__new__(cls, word)
        verdict._value_, verdict.sign, verdict.color, verdict.precedence = word, sign, color, precedence
        return verdict

    @property
    def holds(self) -> bool:
        """The claim was found to be so."""
        return self in (Verdict.EXACT, Verdict.CONFIRMED)

    def with_seeds(self, seeds: int, rule: Rule) -> str:
        """The word and, where few seeds tell an effect's sign, how many: as a verdict is shown without its reason."""
        few = self in (Verdict.CONFIRMED, Verdict.CONTRADICTED) and 0 < seeds < rule.significant_seeds
        return f"{self} ({seeds} seeds)" if few else str(self)
