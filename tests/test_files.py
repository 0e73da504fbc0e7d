"""Files: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ghostlib.files import read_json, save_weights, sweep, write_atomic


@contextmanager
def files_of_at_most(n: int):
    """No file may grow beyond n bytes: writing fails half-way, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "metrics.json"
    write_atomic(path, b"content")
    assert path.read_bytes() == b"content" and names(path.parent) == ["metrics.json"]
    write_atomic(path, b"other")
    assert path.read_bytes() == b"other" and names(path.parent) == ["metrics.json"]


def test_a_full_disk_leaves_the_old_content_and_no_rubbish(tmp_path):
    path = tmp_path / "metrics.json"
    write_atomic(path, b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="what was at .*json before is untouched") as error:
        write_atomic(path, bytes(100_000))
    assert error.value.errno == errno.EFBIG and error.value.filename == str(path)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["metrics.json"]
    write_atomic(path, bytes(100_000))  # with room again
    assert path.stat().st_size == 100_000


def test_weights_that_do_not_fit_leave_the_old_ones(tmp_path):
    from torch import nn

    path = tmp_path / "ema.safetensors"
    path.write_bytes(b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="untouched"):
        save_weights(nn.Linear(100, 100), path)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["ema.safetensors"]


def test_a_failed_rename_leaves_the_old_content_and_no_rubbish(tmp_path):
    path = tmp_path / "taken"
    (path / "inside").mkdir(parents=True)  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match="untouched"):
        write_atomic(path, b"new")
    assert names(tmp_path) == ["taken"] and names(path) == ["inside"]


def test_the_old_content_is_there_until_the_new_is_whole(tmp_path, monkeypatch):
    path, seen = tmp_path / "metrics.json", []
    write_atomic(path, b"old")
    replace = os.replace

    def watched(source, target):
        seen.append((Path(source).read_bytes(), Path(target).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_atomic(path, b"new")
    assert seen == [(b"new", b"old")] and path.read_bytes() == b"new"


def test_two_writers_do_not_share_what_is_half_written(tmp_path, monkeypatch):
    """In two containers, say, whose processes have one number."""
    path, seen, replace = tmp_path / "metrics.json", [], os.replace

    def another_writes_meanwhile(source, target):
        seen.append(Path(source).name)
        if len(seen) == 1:
            write_atomic(path, b"theirs")
        replace(source, target)

    monkeypatch.setattr(os, "replace", another_writes_meanwhile)
    write_atomic(path, b"ours")
    assert path.read_bytes() == b"ours" and names(tmp_path) == ["metrics.json"] and len(set(seen)) == 2


def test_what_a_killed_command_left_is_swept_after_a_day(tmp_path, monkeypatch):
    for name in (".a.1.tmp", ".b.1.removed", "c.tmp"):
        (tmp_path / name / "inside").mkdir(parents=True)
    sweep(tmp_path, ".*.tmp")
    assert len(list(tmp_path.iterdir())) == 3, "it may be of a process that lives"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100_000)
    sweep(tmp_path, ".*.tmp")
    assert {path.name for path in tmp_path.iterdir()} == {".b.1.removed", "c.tmp"}


def test_a_torn_file_of_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json is torn \(.*\); take it from git"):
        read_json(tmp_path / "a.json")


def test_a_module_that_a_network_shares_is_written_under_each_of_its_names(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    shared = torch.nn.Linear(2, 2)
    save_weights(torch.nn.Sequential(shared, shared), tmp_path / "w.safetensors")
    state = load_file(tmp_path / "w.safetensors")
    assert list(state) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    assert torch.equal(state["0.weight"], shared.weight) and torch.equal(state["1.weight"], shared.weight)
