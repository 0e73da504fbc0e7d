"""Counts are read where they are whole, and made where they are not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ghostlib.measures import counts, places
from ghostlib.models import catalog


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The names of the networks that were counted so far, none of them really."""
    from ghostlib.deploy import count
    from ghostlib.models import zoo

    names = []
    monkeypatch.chdir(tmp_path)
    # In this process, where nothing is real.
    monkeypatch.setattr(counts, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    monkeypatch.setattr(zoo, "create", lambda name: names.append(name) or name)
    monkeypatch.setattr(count, "count", lambda network, size: count.Complexity(params=size / 100, macs=float(size)))
    return names


def test_what_is_counted_is_written_once_and_then_read(counted, capsys):
    frame = counts.read("digits")
    assert list(frame.columns) == counts.COLUMNS
    assert "complexity.csv does not exist: measuring" in capsys.readouterr().err
    once = len(counted)
    assert once == len({(name, catalog.find(name).image_size) for name in catalog.rows().values()}
                       | set(catalog.backbones().values()))
    assert counts.read("digits").equals(frame) and len(counted) == once
    assert set(frame[frame["table"] == "table_10"]["quantity"]) == {places.MACS}


def test_a_file_that_lacks_a_row_is_counted_again(counted):
    path = places.runs_file("digits", "complexity")
    whole = counts.read("digits")
    places.write_csv(whole.iloc[1:], path)
    counted.clear()
    assert counts.read("digits").equals(whole) and counted


def test_a_file_with_more_columns_of_an_older_version_is_read(counted):
    whole = counts.read("digits")
    places.write_csv(whole.assign(paper=1.0, difference=0.0, reason=""), places.runs_file("digits", "complexity"))
    counted.clear()
    assert counts.read("digits").equals(whole) and not counted
