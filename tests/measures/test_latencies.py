"""Latencies are read where every network is there, and timed where one is missing."""

from __future__ import annotations

import pandas as pd
import pytest

from ghostlib.measures import latencies, places
from ghostlib.measures.beside import AT_224
from ghostlib.models import catalog, zoo


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """The settings that were timed so far, none of them really."""
    from ghostlib.deploy import latency

    settings = []

    def benchmark(names, folder, engines, threads=(1, 2), rounds=0):
        settings.append((tuple(engines), tuple(threads), rounds))
        return pd.DataFrame([(name, 224, engine, count, 1.0, 0.9, 1.1, 80)
                             for engine in engines for count in threads for name in names], columns=latency.COLUMNS)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("latency: {rounds: 5}\n")
    monkeypatch.setattr(latency, "benchmark", benchmark)
    monkeypatch.setattr(latency, "machine", lambda: {"cpu": "one", "engines": "some", "date": "2026-01-02"})
    monkeypatch.setattr(zoo, "create", lambda name: name)
    return settings


def test_engines_to_deploy_with_are_timed_with_all_threads_and_pytorch_with_one(timed, capsys):
    times = latencies.read("digits")
    assert timed == [(("ONNX Runtime", "OpenVINO"), (1, 2), 5), (("PyTorch",), (1,), 5)]
    assert "latency.csv does not exist: measuring" in capsys.readouterr().err
    assert set(times["network"]) == {*catalog.deployed().values(), *AT_224.values()}
    assert {"cpu", "engines", "date"} <= set(times)
    assert latencies.read("digits").equals(times) and len(timed) == 2


def test_a_file_that_lacks_a_network_is_timed_again(timed, capsys):
    times = latencies.read("digits")
    places.write_csv(times[times["network"] != "mobileone_s1"], places.runs_file("digits", "latency"))
    assert latencies.read("digits").equals(times) and len(timed) == 4
    assert "lacks mobileone_s1: measuring" in capsys.readouterr().err


def test_a_file_from_before_networks_were_timed_beside_the_table_is_whole(timed):
    times = latencies.read("digits")
    places.write_csv(times[~times["network"].isin(AT_224.values())], places.runs_file("digits", "latency"))
    assert len(latencies.read("digits")) < len(times) and len(timed) == 2


def test_a_file_that_lacks_what_is_beside_the_table_in_one_setting_is_timed_again(timed, capsys):
    times = latencies.read("digits")
    places.write_csv(times.iloc[:-1], places.runs_file("digits", "latency"))
    assert times["network"].iloc[-1] == "mobilevit_xxs_224"
    assert latencies.read("digits").equals(times) and len(timed) == 4
    assert "lacks mobilevit_xxs_224: measuring" in capsys.readouterr().err


def test_a_file_that_lacks_an_engine_is_timed_again(timed, capsys):
    times = latencies.read("digits")
    places.write_csv(times[times["engine"] == "PyTorch"], places.runs_file("digits", "latency"))
    assert latencies.read("digits").equals(times) and len(timed) == 4
    assert "lacks ONNX Runtime, OpenVINO: measuring" in capsys.readouterr().err


def test_a_session_takes_the_next_letter_of_its_day(timed):
    for _ in range(2):
        latencies.session()
    first, second = sorted(latencies.SESSIONS.glob("*.csv"))
    day = places.read_csv(first)["date"].iloc[0]
    assert (first.name, second.name) == (f"{day}-a.csv", f"{day}-b.csv") and len(timed) == 4
    assert places.read_csv(first).equals(latencies.read("digits"))  # in columns, too
    for letter in "cdefghijklmnopqrstuvwxyz":
        (latencies.SESSIONS / f"{day}-{letter}.csv").touch()
    latencies.session()
    assert (latencies.SESSIONS / f"{day}-aa.csv").stat().st_size > 0


@pytest.mark.parametrize("text", ["", "latency: {}\n", "latency: {rounds: many}\n", "latency: {rounds: 1}\n"])
def test_a_missing_or_impossible_number_of_rounds_is_an_error_that_names_the_key(timed, tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ValueError, match="params.yaml: latency.rounds = "):
        latencies.measure("digits")


def test_an_unknown_key_of_the_latencies_is_an_error_that_names_it(timed, tmp_path):
    (tmp_path / "params.yaml").write_text("latency: {rounds: 8, call: 12}\n")
    with pytest.raises(ValueError, match="params.yaml: latency: unknown key 'call'"):
        latencies.measure("digits")
