import errno
import hashlib
import os
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spikelfp.data.download import fetch
from spikelfp.errors import DataError, SaveError

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/absent":
            self.send_error(404)
            return
        content = CONTENT[:-1] + b"?" if self.path == "/changed" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: 1000 if self.path == "/cut" else None])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "set" / "file.gz"


def left_in(folder) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_the_file_arrives_with_progress_on_stderr(server, target, capsys):
    assert fetch([f"{server}/good"], target, MD5) == target
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == ["file.gz"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "file.gz" in shown.err


def test_other_users_may_read_the_file_as_the_umask_says(server, target):
    previous = os.umask(0o022)
    try:
        fetch([f"{server}/good"], target, MD5)
    finally:
        os.umask(previous)
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("bad", ["changed", "cut", "absent"])
def test_the_next_mirror_is_tried(server, target, bad):
    fetch([f"{server}/{bad}", f"{server}/good"], target, MD5)
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == ["file.gz"]


def test_a_wrong_checksum_is_refused_and_leaves_nothing(server, target):
    with pytest.raises(DataError, match=rf"changed: its md5 is [0-9a-f]{{32}}, expected {MD5}"):
        fetch([f"{server}/changed"], target, MD5)
    assert left_in(target.parent) == []


@pytest.mark.parametrize("bad", ["changed", "cut", "absent"])
def test_a_failed_download_keeps_the_previous_file(server, target, bad):
    target.parent.mkdir(parents=True)
    target.write_bytes(b"previous")
    with pytest.raises(DataError):
        fetch([f"{server}/{bad}"], target, MD5)
    assert target.read_bytes() == b"previous"
    assert left_in(target.parent) == ["file.gz"]


def test_every_mirror_and_the_folder_are_named_without_a_network(target, offline):
    with pytest.raises(DataError) as caught:
        fetch(["http://one/file.gz", "http://two/file.gz"], target, MD5)
    text = str(caught.value)
    assert "http://one/file.gz: Temporary failure in name resolution" in text
    assert "http://two/file.gz: Temporary failure" in text
    assert f"Put the file file.gz into the folder {target.parent}" in text
    assert "\n" not in text
    assert not target.parent.exists()


def test_a_relative_folder_is_named_in_full(tmp_path, monkeypatch, offline):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"into the folder {tmp_path / 'here'}"):
        fetch(["http://one/f"], tmp_path.__class__("here/f"), MD5)


def test_a_refused_connection_and_an_http_error_are_reasons(server, target):
    with pytest.raises(DataError, match=r"absent: HTTP Error 404: Not Found"):
        fetch([f"{server}/absent"], target, MD5)
    with pytest.raises(DataError, match="Connection refused"):
        fetch(["http://127.0.0.1:9/file"], target, MD5)


class Response:
    """An answer that breaks after its first piece."""

    def __init__(self, failure: BaseException) -> None:
        self.headers: dict[str, str] = {}
        self.failure = failure
        self.calls = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        self.calls += 1
        if self.calls > 1:
            raise self.failure
        return CONTENT[:size]


@pytest.mark.parametrize(
    ("failure", "raised", "message"),
    [
        (TimeoutError("timed out"), DataError, "timed out"),
        (ConnectionResetError(), DataError, "ConnectionResetError"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_broken_transfer_leaves_the_previous_file_alone(target, monkeypatch, failure, raised, message):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: Response(failure))
    target.parent.mkdir(parents=True)
    target.write_bytes(b"previous")
    with pytest.raises(raised, match=message):
        fetch(["http://one/f"], target, MD5)
    assert target.read_bytes() == b"previous"
    assert left_in(target.parent) == ["file.gz"]


@pytest.mark.parametrize(
    ("function", "code", "reason"),
    [
        ("fsync", errno.ENOSPC, "No space left on device"),
        ("replace", errno.EROFS, "Read-only file system"),
    ],
)
def test_a_full_or_read_only_disk_keeps_the_previous_file(server, target, monkeypatch, function, code, reason):
    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    target.parent.mkdir(parents=True)
    target.write_bytes(b"previous")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(SaveError, match=rf"cannot write {target}: {reason}.*SPIKELFP_DATA"):
        fetch([f"{server}/good"], target, MD5)
    assert target.read_bytes() == b"previous"
    assert left_in(target.parent) == ["file.gz"]


def test_a_write_that_the_system_refuses_midway(server, target):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"previous")
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    try:
        with pytest.raises(SaveError, match="File too large"):
            fetch([f"{server}/good"], target, MD5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"previous"
    assert left_in(target.parent) == ["file.gz"]


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SaveError, match="cannot write"):
        fetch([f"{server}/good"], tmp_path / "taken" / "file.gz", MD5)
