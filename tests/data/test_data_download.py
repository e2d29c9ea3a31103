import errno
import hashlib
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from spikelfp.data import download
from spikelfp.data.download import Original, fetch
from spikelfp.errors import DataError, SaveError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ORIGINAL = Original(SHA256, len(CONTENT))

IDENTITY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgu8T56Sq3YNQD+flD
z4rFo9V2kwvbrG+leJr8ddM66FOhRANCAAQXgknVkLx/33hP4kbo8ZubF5LSEZjm
SFEnuRXDvog9HBF6dMd9jMNlDZccjvIYH33XzfyHUX4IKTfTKEpIkMyi
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUdQPk7yXgh9HoahxKJJEAcALlMXAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyOTAyNDEyMVoYDzIxMjYxMTA1
MDI0MTIxWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQXgknVkLx/33hP4kbo8ZubF5LSEZjmSFEnuRXDvog9HBF6dMd9jMNl
DZccjvIYH33XzfyHUX4IKTfTKEpIkMyio28wbTAdBgNVHQ4EFgQUO/Jx4Y714qLO
orj1ZG6LHbgJVNwwHwYDVR0jBBgwFoAUO/Jx4Y714qLOorj1ZG6LHbgJVNwwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgMKWQJW5a1EJvGwjTFHEOpQEFhF5SLt8RJ9i9rdVSJL8CIQD8
ieSDUQtDFdee5tPocb61f3mWD1WSGtPfbtkLej+EIg==
-----END CERTIFICATE-----
"""
"""Of a server called localhost, made for these tests, and valid until 2126."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/absent":
            self.send_error(404)
            return
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        content = CONTENT[:-1] + b"?" if self.path == "/changed" else CONTENT
        self.send_response(200)
        if self.path == "/larger":
            self.send_header("Content-Length", str(10 * len(content)))
        elif self.path not in ("/endless", "/shorter"):
            self.send_header("Content-Length", str(len(content)))
        if self.path == "/packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.path == "/endless":
            self._pour(content)
        elif self.path == "/trickle":
            self._trickle(content)
        else:
            self.wfile.write(content[: 1000 if self.path in ("/cut", "/shorter") else None])

    def _pour(self, content: bytes) -> None:
        try:
            for _ in range(1000):  # 256 MB
                self.wfile.write(content)
                self.server.poured += len(content)
        except OSError:  # nobody listens any more
            pass

    def _trickle(self, content: bytes) -> None:
        try:
            for byte in content[:400]:
                self.wfile.write(bytes([byte]))
                time.sleep(0.005)
        except OSError:
            pass

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    poured = 0
    daemon_threads = True

    def handle_error(self, *args: object) -> None:  # clients that leave are what is tested
        pass


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    path = tmp_path_factory.mktemp("identity") / "server.pem"
    path.write_text(IDENTITY)
    return path


@pytest.fixture(scope="module")
def serving(identity):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    with Server(("127.0.0.1", 0), Handler) as httpd:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


@pytest.fixture
def server(serving, identity, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(identity))
    return f"https://127.0.0.1:{serving.server_port}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "set" / "file.gz"


def left_in(folder) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_the_file_arrives_with_progress_on_stderr(server, target, capsys):
    assert fetch([f"{server}/good"], target, ORIGINAL) == target
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == ["file.gz"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "file.gz" in shown.err


def test_other_users_may_read_the_file_as_the_umask_says(server, target):
    previous = os.umask(0o022)
    try:
        fetch([f"{server}/good"], target, ORIGINAL)
    finally:
        os.umask(previous)
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("bad", ["changed", "cut", "absent", "larger", "shorter", "endless"])
def test_the_next_mirror_is_tried(server, target, bad):
    fetch([f"{server}/{bad}", f"{server}/good"], target, ORIGINAL)
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == ["file.gz"]


def test_a_wrong_checksum_is_refused_and_leaves_nothing(server, target):
    with pytest.raises(DataError, match=rf"changed: its sha256 is [0-9a-f]{{64}}, expected {SHA256}"):
        fetch([f"{server}/changed"], target, ORIGINAL)
    assert left_in(target.parent) == []


@pytest.mark.parametrize("bad", ["changed", "cut", "absent", "larger", "shorter", "endless"])
def test_a_failed_download_keeps_the_previous_file(server, target, bad):
    target.parent.mkdir(parents=True)
    target.write_bytes(b"previous")
    with pytest.raises(DataError):
        fetch([f"{server}/{bad}"], target, ORIGINAL)
    assert target.read_bytes() == b"previous"
    assert left_in(target.parent) == ["file.gz"]


def test_every_mirror_and_the_folder_are_named_without_a_network(target, offline):
    with pytest.raises(DataError) as caught:
        fetch(["https://one/file.gz", "https://two/file.gz"], target, ORIGINAL)
    text = str(caught.value)
    assert "https://one/file.gz: Temporary failure in name resolution" in text
    assert "https://two/file.gz: Temporary failure" in text
    assert f"Put the file file.gz into the folder {target.parent}" in text
    assert "\n" not in text
    assert not target.parent.exists()


def test_a_relative_folder_is_named_in_full(tmp_path, monkeypatch, offline):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"into the folder {tmp_path / 'here'}"):
        fetch(["https://one/f"], tmp_path.__class__("here/f"), ORIGINAL)


def test_a_refused_connection_and_an_http_error_are_reasons(server, target):
    with pytest.raises(DataError, match=r"absent: HTTP Error 404: Not Found"):
        fetch([f"{server}/absent"], target, ORIGINAL)
    with pytest.raises(DataError, match="Connection refused"):
        fetch(["https://127.0.0.1:9/file"], target, ORIGINAL)


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

    def read1(self, size: int) -> bytes:
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
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *args, **kwargs: Response(failure))
    target.parent.mkdir(parents=True)
    target.write_bytes(b"previous")
    with pytest.raises(raised, match=message):
        fetch(["https://one/f"], target, ORIGINAL)
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
        fetch([f"{server}/good"], target, ORIGINAL)
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
            fetch([f"{server}/good"], target, ORIGINAL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"previous"
    assert left_in(target.parent) == ["file.gz"]


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SaveError, match="cannot write"):
        fetch([f"{server}/good"], tmp_path / "taken" / "file.gz", ORIGINAL)


def plain_http(url: str) -> str:
    return url.replace("https:", "http:")


@pytest.mark.parametrize("address", ["http://127.0.0.1/f", "file:///etc/passwd", "ftp://127.0.0.1/f", "f"])
def test_only_https_addresses_are_asked(address, target, monkeypatch):
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *args, **kwargs: pytest.fail("asked"))
    with pytest.raises(DataError, match=f"{address} is no https address, so anybody on the way could change"):
        fetch([address], target, ORIGINAL)
    assert left_in(target.parent) == []


def test_a_redirect_is_followed_within_https_only(server, target):
    assert fetch([f"{server}/to/{server}/good"], target, ORIGINAL).read_bytes() == CONTENT
    for away in (plain_http(server) + "/good", "file:///etc/passwd", "ftp://127.0.0.1/good"):
        target.unlink(missing_ok=True)
        with pytest.raises(DataError, match=r"no https address|Redirection to url"):
            fetch([f"{server}/to/{away}"], target, ORIGINAL)
        assert left_in(target.parent) == []


def test_a_server_that_nobody_vouches_for_is_refused(server, target, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(DataError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch([f"{server}/good"], target, ORIGINAL)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("larger", "offers 2560000 bytes, expected 256000"),
        ("endless", "sends more than the 256000 bytes of the file"),
        ("shorter", "ended after 1000 of 256000 bytes"),
    ],
)
def test_no_more_than_the_size_of_the_file_is_read(server, serving, target, path, message):
    serving.poured = 0
    with pytest.raises(DataError, match=message):
        fetch([f"{server}/{path}"], target, ORIGINAL)
    assert serving.poured < 40 * len(CONTENT)  # what the buffers of both sides take
    assert left_in(target.parent) == []


def test_an_encoding_that_is_claimed_changes_no_byte(server, target):
    assert fetch([f"{server}/packed"], target, ORIGINAL).read_bytes() == CONTENT


def test_a_trickle_is_given_up(server, target, monkeypatch):
    monkeypatch.setattr(download, "_PATIENCE", 0.2)
    with pytest.raises(DataError, match=r"too slow: \d+ of 256000 bytes in 0 s"):
        fetch([f"{server}/trickle"], target, ORIGINAL)
    assert left_in(target.parent) == []


def test_a_header_that_never_ends_is_given_up(target, monkeypatch):
    closed = threading.Event()

    class Late(Response):
        def close(self) -> None:
            closed.set()

    def answer(*args: object, **kwargs: object) -> Response:
        time.sleep(0.2)
        return Late(TimeoutError())

    monkeypatch.setattr(download, "_PATIENCE", 0.05)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", answer)
    with pytest.raises(DataError, match="no answer within 0 s"):
        fetch(["https://one/f"], target, ORIGINAL)
    assert closed.wait(5)


def test_a_link_in_the_place_of_the_temporary_file_is_not_written_through(server, target, tmp_path, monkeypatch):
    monkeypatch.setattr("spikelfp.files.uuid.uuid4", lambda: SimpleNamespace(hex="known"))
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    target.parent.mkdir(parents=True)
    (target.parent / ".file.gz.known.part").symlink_to(precious)
    with pytest.raises(SaveError, match="File exists"):
        fetch([f"{server}/good"], target, ORIGINAL)
    assert precious.read_bytes() == b"mine"


def test_the_names_of_temporary_files_differ(server, target, monkeypatch):
    seen = []
    fsync = os.fsync

    def look(handle: int) -> None:
        seen.extend(name for name in left_in(target.parent) if name.endswith(".part"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", look)
    for _ in range(2):
        fetch([f"{server}/good"], target, ORIGINAL)
    assert len(set(seen)) == 2
    assert str(os.getpid()) not in seen[0].split(".")
