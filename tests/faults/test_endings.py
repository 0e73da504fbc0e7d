"""How a command ends that is interrupted, or that a disk refuses: closed, with words and what to do."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from ghostlib import __main__, cli, errors, files
from ghostlib.files import write_atomic

GOES_ON = "the same command goes on from the last state"


# -- disks


@pytest.fixture
def path(tmp_path) -> Path:
    write_atomic(tmp_path / "metrics.json", b"old")
    return tmp_path / "metrics.json"


def refuse(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")  # of writing, the system does not say which file


def read_only(path, *arguments, **options):
    raise OSError(errno.EROFS, "Read-only file system", str(path))


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_whatever_a_full_disk_refuses_the_file_is_named_and_stays(path, monkeypatch, call):
    monkeypatch.setattr(*((files, call) if call == "open" else (os, call)), refuse, raising=False)
    with pytest.raises(OSError, match=f"what was at {path} before is untouched") as error:
        write_atomic(path, b"new")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_a_disk_that_refuses_to_remove_what_is_half_written_is_no_other_error(path, monkeypatch):
    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "unlink", read_only)
    with pytest.raises(OSError, match="No space left on device; what was at .*metrics.json before is untouched"):
        write_atomic(path, b"new")


@pytest.mark.parametrize("below", ["x.json", "a/x.json"])
def test_a_folder_that_cannot_be_made_is_named_with_the_file(path, below):
    target = path / below  # below a file
    with pytest.raises(OSError, match=rf"\({target.parent}\); what was at {target} before is untouched"):
        write_atomic(target, b"new")


def test_a_folder_that_is_not_written_through_is_told_with_what_it_means(path, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: refuse() if synced else synced.append(sync(file)))
    with pytest.raises(OSError, match=f"what is at {path} is new and whole, but a power cut may") as error:
        write_atomic(path, b"new")
    assert error.value.filename == str(path) and path.read_bytes() == b"new"


@pytest.mark.parametrize(("number", "remedy"), [
    (errno.ENOSPC, "; make room, and start the same command again"), (errno.EDQUOT, "; make room"),
    (errno.EROFS, "; make it writable, or choose another folder (of trainings: GHOSTLIB_RUNS=FOLDER)")])
def test_a_command_that_a_disk_refuses_says_what_helps(number, remedy, monkeypatch):
    def app():
        raise OSError(number, os.strerror(number), "results/x.csv")
    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert "'results/x.csv'" in end.value.code and remedy in end.value.code


# -- interruptions


@pytest.fixture
def interrupt(monkeypatch):
    """Runs a command line that a signal interrupts; returns its exit status, and says what was closed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(command: str, number: int, closed: list) -> int:
        def app():
            try:
                os.kill(os.getpid(), number)
                pytest.fail("it went on")
            finally:
                closed.append(signal.getsignal(number))
        monkeypatch.setattr(cli, "app", app)
        monkeypatch.setattr(sys, "argv", ["ghostlib", *command.split()])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code
    yield run
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("command", "told"), [
    ("measure classifiers digits", f": {GOES_ON}"), ("train resnet10 images", f": {GOES_ON}"),
    ("train resnet10 images --fresh", f": without --fresh {GOES_ON}"), ("evaluate --published", f": {GOES_ON}"),
    ("execute notebooks/ablation.ipynb a.ipynb", f": {GOES_ON}"), ("execute notebooks/latency.ipynb a.ipynb", ""),
    ("measure latencies digits", ""), ("count ghostnetv3_100", ""), ("", "")])
def test_an_interrupted_command_closes_what_is_open_and_says_what_is_next(number, status, command, told, interrupt,
                                                                          capsys):
    handler, closed = signal.getsignal(number), []
    assert interrupt(command, number, closed) == status
    assert capsys.readouterr().err == f"interrupted{told}\n"
    assert closed == [signal.SIG_DFL]  # a second one ends it at once
    assert signal.getsignal(number) is handler


def test_an_error_that_an_interruption_causes_is_an_interruption(monkeypatch, capsys):
    def app():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise RuntimeError("a process that loads data was killed")  # it got the signal, too
    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 143 and capsys.readouterr().err.startswith("interrupted")


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as nohup has it of its own signal
    try:
        with errors.interruptible(["measure"]):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_fork_dies_as_it_would_without(capfd):
    with errors.interruptible(["train"]):
        child = os.fork()
        if not child:  # such as loads data
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGTERM
    assert capfd.readouterr().err == ""


def test_interrupted_before_it_has_begun_it_says_nothing(monkeypatch):
    class Interrupting:
        @staticmethod
        def find_spec(name, *arguments):
            if name == "ghostlib.cli":
                raise KeyboardInterrupt
    monkeypatch.delitem(sys.modules, "ghostlib.cli")
    monkeypatch.delattr("ghostlib.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupting, *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        __main__.main()
    assert end.value.code == 130


# -- sockets


@pytest.mark.parametrize("command", ["measure rates digits", "train resnet10 images --set workers=1", "execute a b",
                                     "plan fashion"])
def test_a_folder_too_long_for_sockets_is_refused_before_processes_wait_for_each_other(command, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{'long' * 20}")
    monkeypatch.setattr(sys, "argv", ["ghostlib", *command.split()])
    monkeypatch.setattr(cli, "app", lambda: pytest.fail("it began"))
    with pytest.raises(SystemExit, match="a path of 85 bytes, too long for the sockets .*: set TMPDIR to one of at"):
        cli.main()


def test_what_starts_no_process_takes_any_folder(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{'long' * 20}")
    for arguments in ([], ["zoo"], ["--help"]):
        errors.check_sockets(arguments)
