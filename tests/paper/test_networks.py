"""The paper's rows and the networks that stand behind them, which the library names without knowing the paper."""

from __future__ import annotations

from ghostlib.models import catalog, zoo
from ghostlib.paper import numbers


def test_every_row_of_the_papers_tables_has_a_network():
    assert list(zoo.rows()) == list(numbers.table("table_9").index)
    assert list(catalog.backbones()) == list(numbers.table("table_10").index)
    assert {*zoo.rows().values(), *(name for name, _ in catalog.backbones().values())} <= set(zoo.names())
