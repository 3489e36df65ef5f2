"""Fetching: from a mirror or a server on this machine, whole or not at all, with one clear line."""

import hashlib
import socket
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from datasets import fetch as fetching
from datasets.errors import DataError
from datasets.fetch import Manifest, fetch_all, fetch_file, read_manifest
from harness import catalogue
from harness.sources import source_files
from tests.archives import tarred, zipped
from tests.datasets.sources import fetch

CONTENT = b"@relation Demo\n" + b"1,2,3\n" * 500
WANTED = "demo/values.tsf"
HTML = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"


def digest(content):
    return hashlib.sha256(content).hexdigest()


GOOD_TAR = tarred(("readme/", None), ("readme/a.txt", b"hello"), ("values.tsf", CONTENT))
GOOD_ZIP = zipped(("readme/", b""), ("readme/a.txt", b"hello"), ("values.tsf", CONTENT))


class Server(ThreadingHTTPServer):
    """Answers from `routes`: path -> (status, body, announced length or None)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes = {}
        self.hits = []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.lstrip("/")
        self.server.hits.append(path)
        answer = self.server.routes.get(path, (404, b"", None))
        if callable(answer):
            answer = answer()
        status, body, length = answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "FIRST_WAIT_S", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def manifest(urls, packed=GOOD_ZIP, name="values.zip", size=None, **more):
    """A manifest of one source with one packed file, and whatever else is given."""
    archive = {"name": name, "member": "values.tsf", "sha256": digest(packed), "urls": urls}
    if size is not None:
        archive["bytes"] = size
    file = {
        "path": WANTED,
        "sha256": digest(CONTENT),
        "bytes": len(CONTENT),
        "archive": archive,
    }
    return Manifest.model_validate({"sources": {"demo": source(file)} | more})


def source(*files):
    texts = dict.fromkeys(("title", "licence", "terms", "citation"), "words")
    return {**texts, "files": list(files)}


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "packed"), [("values.zip", GOOD_ZIP), ("values.tar.gz", GOOD_TAR)], ids=["zip", "tar"]
)
def test_an_archive_is_downloaded_and_its_member_unpacked(server, tmp_path, name, packed):
    server.routes["a"] = 200, packed, None
    described = manifest([server.url("a")], packed, name, size=len(packed))
    (result,) = fetch("demo", tmp_path, manifest=described)
    assert (result.source, result.status) == ("demo", "downloaded")
    assert result.path == tmp_path / WANTED
    assert result.path.read_bytes() == CONTENT
    assert files_in(tmp_path) == [WANTED]


def test_a_file_that_is_there_is_never_fetched_again(server, tmp_path):
    server.routes["a.zip"] = 200, GOOD_ZIP, None
    described = manifest([server.url("a.zip")])
    fetch("demo", tmp_path, manifest=described)
    before = (tmp_path / WANTED).stat().st_mtime_ns
    result = fetch_file(WANTED, tmp_path, manifest=described)
    assert result.status == "present"
    assert server.hits == ["a.zip"]
    assert (tmp_path / WANTED).stat().st_mtime_ns == before


def test_the_second_address_serves_when_the_first_does_not(server, tmp_path):
    server.routes["b.zip"] = 200, GOOD_ZIP, None
    described = manifest([server.url("a.zip"), server.url("b.zip")])
    assert fetch_file(WANTED, tmp_path, manifest=described).status == "downloaded"
    assert server.hits == ["a.zip", "b.zip"]  # a 404 is not tried again


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, tmp_path, status):
    answers = iter([(status, b"", None)] * 2 + [(200, GOOD_ZIP, None)])
    server.routes["a.zip"] = lambda: next(answers)
    described = manifest([server.url("a.zip")])
    assert fetch_file(WANTED, tmp_path, manifest=described).status == "downloaded"
    assert len(server.hits) == 3


def test_a_connection_that_breaks_is_tried_again(server, tmp_path):
    broken = 200, GOOD_ZIP[:50], len(GOOD_ZIP)
    answers = iter([broken, (200, GOOD_ZIP, None)])
    server.routes["a.zip"] = lambda: next(answers)
    described = manifest([server.url("a.zip")])
    assert fetch_file(WANTED, tmp_path, manifest=described).status == "downloaded"


LINK = zipfile.ZipInfo("values.tsf")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16
DEVICE = zipfile.ZipInfo("null")
DEVICE.external_attr = (stat.S_IFCHR | 0o666) << 16
BAD_ARCHIVES = [
    (zipped(("values.tsf", CONTENT), ("../x", b"")), "unsafe archive member '../x'"),
    (zipped(("values.tsf", CONTENT), ("a/../../x", b"")), "unsafe archive member 'a/../../x'"),
    (zipped(("values.tsf", CONTENT), ("/etc/x", b"")), "unsafe archive member '/etc/x'"),
    (zipped(("values.tsf", CONTENT), ("C:\\x", b"")), "unsafe archive member 'C:"),
    (zipped((LINK, b"/etc/passwd")), "unsafe archive member 'values.tsf'"),
    (zipped(("values.tsf", CONTENT), (DEVICE, b"")), "unsafe archive member 'null'"),
    (zipped(("other.tsf", CONTENT)), "expected archive member 'values.tsf', found other.tsf"),
    (zipped(("values.tsf", b"0" * 10**7)), "expected 3015 bytes, found 10000000"),
    (zipped(("values.tsf", CONTENT[::-1])), "expected sha256 .*, found"),
    (b"no zip at all", "expected a zip archive, found File is not a zip file"),
]


@pytest.mark.parametrize(("packed", "message"), BAD_ARCHIVES)
def test_archives_that_must_not_be_unpacked(server, tmp_path, packed, message):
    server.routes["a.zip"] = 200, packed, None
    with pytest.raises(DataError, match=f"a.zip: .*{message}") as caught:
        fetch_file(WANTED, tmp_path, manifest=manifest([server.url("a.zip")], packed=packed))
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == []


def test_a_bomb_is_not_unpacked_when_it_lies_about_its_size(server, tmp_path):
    packed = zipped(("values.tsf", b"0" * 10**7))
    true_size, lie = (size.to_bytes(4, "little") for size in (10**7, len(CONTENT)))
    packed = packed.replace(true_size, lie)
    server.routes["a.zip"] = 200, packed, None
    with pytest.raises(DataError, match="expected a zip archive, found Bad CRC-32"):
        fetch_file(WANTED, tmp_path, manifest=manifest([server.url("a.zip")], packed=packed))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "size", "message"),
    [
        ((200, GOOD_ZIP[:-1] + b"x", None), len(GOOD_ZIP), "expected sha256 .*, found"),
        ((200, GOOD_ZIP[:-1], None), None, "expected sha256 .*, found"),
        ((200, GOOD_ZIP[:-9], None), len(GOOD_ZIP), r"truncated: expected \d+ bytes, found \d+"),
        ((200, GOOD_ZIP[:-9], len(GOOD_ZIP)), None, "truncated: the connection was closed early"),
        ((200, GOOD_ZIP + b"x", None), len(GOOD_ZIP), r"expected \d+ bytes, found more"),
        ((200, HTML, None), None, "expected the file, found an HTML page"),
        ((200, HTML, None), len(GOOD_ZIP), "expected the file, found an HTML page"),
        ((200, HTML * 99, None), len(GOOD_ZIP), "expected the file, found an HTML page"),
        ((403, HTML, None), None, "HTTP status 403"),
        ((503, HTML, None), None, "HTTP status 503"),
    ],
)
def test_wrong_answers_are_named_and_leave_nothing(server, tmp_path, answer, size, message):
    server.routes["a.zip"] = answer
    described = manifest([server.url("a.zip")], size=size)
    with pytest.raises(DataError, match=rf"{WANTED}: .*/a\.zip: {message}") as caught:
        fetch_file(WANTED, tmp_path, manifest=described)
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == []


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()[1]


def test_every_address_tried_is_listed_with_its_reason(server, tmp_path):
    nobody = f"http://127.0.0.1:{closed_port()}/c.zip"
    server.routes["b.zip"] = 200, HTML, None
    described = manifest([server.url("a.zip"), server.url("b.zip"), nobody])
    with pytest.raises(DataError) as caught:
        fetch_file(WANTED, tmp_path, manifest=described)
    message = str(caught.value)
    assert f"{server.url('a.zip')}: HTTP status 404" in message
    assert f"{server.url('b.zip')}: expected the file, found an HTML page" in message
    assert f"{nobody}: no connection (ConnectionError)" in message


def test_fetch_all_does_the_others_and_reports(server, tmp_path):
    server.routes["a.zip"] = 200, GOOD_ZIP, None
    server.routes["plain.txt"] = 200, b"plain", None
    gone = {"path": "gone.txt", "sha256": digest(b""), "urls": [server.url("gone.txt")]}
    plain = {"path": "plain.txt", "sha256": digest(b"plain"), "urls": [server.url("plain.txt")]}
    described = manifest([server.url("a.zip")], gone=source(gone, plain))
    results = fetch_all(tmp_path, manifest=described)
    assert [(r.source, r.path.name, r.status) for r in results] == [
        ("demo", "values.tsf", "downloaded"),
        ("gone", "gone.txt", "failed"),
        ("gone", "plain.txt", "downloaded"),
    ]
    assert "HTTP status 404" in results[1].reason
    assert files_in(tmp_path) == [WANTED, "plain.txt"]


def test_a_wrong_file_is_replaced_only_by_the_right_one(server, tmp_path):
    target = tmp_path / WANTED
    target.parent.mkdir()
    target.write_bytes(b"something of mine")
    described = manifest([server.url("a.zip")])
    with pytest.raises(DataError, match=r"values\.tsf: truncated: .* \(left as it is\); http"):
        fetch_file(WANTED, tmp_path, manifest=described)
    assert target.read_bytes() == b"something of mine"
    server.routes["a.zip"] = 200, GOOD_ZIP, None
    assert fetch_file(WANTED, tmp_path, manifest=described).status == "downloaded"
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "content"), [(WANTED, CONTENT), ("demo/values.zip", GOOD_ZIP)], ids=["file", "zip"]
)
def test_a_mirror_is_taken_before_the_network(server, tmp_path, name, content):
    mirror, target = tmp_path / "mirror", tmp_path / "target"
    (mirror / name).parent.mkdir(parents=True)
    (mirror / name).write_bytes(content)
    described = manifest([server.url("a.zip")])
    result = fetch_file(WANTED, target, mirror, described)
    assert result.status == "copied"
    assert (target / WANTED).read_bytes() == CONTENT
    assert server.hits == []


def test_a_mirror_with_wrong_or_no_files_gives_way_to_the_network(server, tmp_path):
    mirror, target = tmp_path / "mirror", tmp_path / "target"
    (mirror / WANTED).parent.mkdir(parents=True)
    (mirror / WANTED).write_bytes(CONTENT[:-1])
    described = manifest([server.url("a.zip")])
    with pytest.raises(DataError) as caught:
        fetch_file(WANTED, target, mirror, described)
    assert f"{mirror / WANTED}: truncated: expected 3015 bytes, found 3014" in str(caught.value)
    assert f"{mirror / 'demo/values.zip'}: no such file" in str(caught.value)
    server.routes["a.zip"] = 200, GOOD_ZIP, None
    assert fetch_file(WANTED, target, mirror, described).status == "downloaded"


def twofold(url):
    """A manifest of an archive as a file of its own, and then of a file in it."""
    archive = {"path": "demo/all.tar.gz", "sha256": digest(GOOD_TAR), "urls": [url]}
    (file,) = manifest([url], GOOD_TAR, "all.tar.gz").model_dump()["sources"]["demo"]["files"]
    return Manifest.model_validate({"sources": {"demo": source(archive, file)}})


def test_an_archive_that_is_there_is_not_downloaded_again(server, tmp_path):
    server.routes["a"] = 200, GOOD_TAR, None
    results = fetch("demo", tmp_path, manifest=twofold(server.url("a")))
    assert [result.status for result in results] == ["downloaded", "copied"]
    assert server.hits == ["a"]
    assert results[1].path.read_bytes() == CONTENT
    assert files_in(tmp_path) == ["demo/all.tar.gz", WANTED]


def test_another_archive_under_the_name_does_not_serve(server, tmp_path):
    packed = tmp_path / "demo" / "all.tar.gz"
    packed.parent.mkdir()
    packed.write_bytes(tarred(("values.tsf", CONTENT)))
    with pytest.raises(DataError, match=r"all\.tar\.gz: expected sha256 .*/a: HTTP status 404"):
        fetch_file(WANTED, tmp_path, manifest=twofold(server.url("a")))
    server.routes["a"] = 200, GOOD_TAR, None
    result = fetch_file(WANTED, tmp_path, manifest=twofold(server.url("a")))
    assert result.status == "downloaded" and result.path.read_bytes() == CONTENT
    assert packed.read_bytes() != GOOD_TAR


def test_no_preparation_depends_on_how_files_are_fetched():
    for name in catalogue.available("datasets"):
        loader = catalogue.describe("datasets", name)["loader"].partition(":")[0]
        assert "datasets/fetch.py" not in source_files(loader)


def test_mistakes_of_the_caller_are_named(tmp_path):
    described = manifest(["http://127.0.0.1:1/"])
    with pytest.raises(DataError, match="expected the path of one of its files, found 'x'"):
        fetch_file("x", tmp_path, manifest=described)
    with pytest.raises(DataError, match=r"mirror: expected a folder, found .*nowhere"):
        fetch_file(WANTED, tmp_path, tmp_path / "nowhere", described)


def test_the_manifest_is_complete():
    sources = read_manifest().sources
    assert set(sources) == {
        "fred_md",
        "nn5_daily",
        "solar_weekly",
        "temperature_rain",
        "physionet2012",
        "ushcn_raw",
        "ushcn_maine",
        "ushcn_gru_ode_bayes",
    }
    for entry in sources.values():
        assert entry.licence and entry.citation
        for file in entry.files:
            urls = file.archive.urls if file.archive else file.urls
            assert urls and all(url.startswith("https://") for url in urls)
    for name in ("fred_md", "nn5_daily", "solar_weekly", "temperature_rain"):
        (file,) = sources[name].files
        assert len(file.archive.urls) == 2
        assert Path(file.path).name == file.archive.member
    (country,), (state,) = sources["ushcn_raw"].files, sources["ushcn_maine"].files
    assert Path(country.path) == Path(state.path).with_name(state.archive.name)
    assert country.sha256 == state.archive.sha256


@pytest.mark.parametrize(
    "path", [file.path for source in read_manifest().sources.values() for file in source.files]
)
def test_the_mirror_s_files_are_those_of_the_manifest(mirrored, tmp_path, path):
    assert fetch_file(path, tmp_path, mirrored(path)).status == "copied"


RECORDS = {"set/1.txt": b"one\n", "set/2.txt": b"two\n"}
OFFICIAL = tarred(("set/", None), *RECORDS.items())
REPACKED = tarred(*reversed(RECORDS.items()))


def tar_manifest(*urls):
    """A manifest of one .tar.gz that may have been packed otherwise."""
    contents = {"sha256": digest(b"one\ntwo\n"), "repacked": "set.repacked.tar.gz"}
    file = {"path": "demo/set.tar.gz", "sha256": digest(OFFICIAL), "contents": contents}
    urls = {"urls": list(urls) or ["http://127.0.0.1:1/"]}
    return Manifest.model_validate({"sources": {"demo": source(file | urls)}})


@pytest.mark.parametrize("packed", [OFFICIAL, REPACKED], ids=["official", "repacked"])
@pytest.mark.parametrize("name", ["set.tar.gz", "set.repacked.tar.gz"])
def test_an_archive_of_the_same_contents_serves_as_well(tmp_path, name, packed):
    mirror, target = tmp_path / "mirror", tmp_path / "target"
    (mirror / "demo").mkdir(parents=True)
    (mirror / "demo" / name).write_bytes(packed)
    (result,) = fetch("demo", target, mirror, tar_manifest())
    assert result.status == "copied"
    assert files_in(target) == ["demo/set.tar.gz"]
    assert result.path.read_bytes() == packed
    (result,) = fetch("demo", target, None, tar_manifest())
    assert result.status == "present"


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (tarred(*{**RECORDS, "set/2.txt": b"tow\n"}.items()), "expected contents of sha256 "),
        (tarred(*RECORDS.items(), ("set/3.txt", b"x")), "expected contents of sha256 "),
        (tarred(*RECORDS.items(), ("../x", b"")), "unsafe archive member '../x'"),
        (b"nothing", "expected a .tar.gz archive, found Not a gzipped file"),
        (HTML, "expected the file, found an HTML page"),
    ],
    ids=["changed", "one more", "hostile", "no archive", "page"],
)
def test_an_archive_of_other_contents_does_not_serve(server, tmp_path, packed, message):
    server.routes["set.tar.gz"] = 200, packed, None
    with pytest.raises(DataError, match=rf"set\.tar\.gz: .*{message}") as caught:
        fetch("demo", tmp_path, manifest=tar_manifest(server.url("set.tar.gz")))
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 3}, "sources.demo.files.0.size: Extra inputs are not permitted"),
        ({"sha256": "abc"}, "sources.demo.files.0.sha256: String should match pattern"),
        ({"path": "../x"}, "sources.demo.files.0.path: .* relative path without '..'"),
        ({"path": "/x"}, "sources.demo.files.0.path: .* relative path without '..'"),
        ({"urls": []}, "sources.demo.files.0: .* expected either urls or archive"),
        ({"urls": ["ftp://a/b"]}, "sources.demo.files.0.urls.0: String should match pattern"),
        ({"archive": {"name": "x.rar"}}, "files.0.archive.name: String should match pattern"),
        ({"archive": {"name": "a/x.zip"}}, "files.0.archive.name: String should match pattern"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_entry(tmp_path, change, message):
    path = tmp_path / "manifest.yaml"
    file = {"path": "x", "sha256": "0" * 64, "urls": ["https://example.org/x"]}
    path.write_text(yaml.safe_dump({"sources": {"demo": source(file | change)}}))
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


def test_an_archive_needs_a_bound_and_a_path_comes_once(tmp_path):
    path = tmp_path / "manifest.yaml"
    described = manifest(["http://127.0.0.1/"]).model_dump(exclude_none=True)
    twice = {"sources": {name: described["sources"]["demo"] for name in ("a", "b")}}
    path.write_text(yaml.safe_dump(twice))
    with pytest.raises(DataError, match=r"every path once, found demo/values\.tsf again"):
        read_manifest(path)
    del described["sources"]["demo"]["files"][0]["bytes"]
    path.write_text(yaml.safe_dump(described))
    with pytest.raises(DataError, match="expected bytes beside archive"):
        read_manifest(path)
    path.write_text("sources: [")
    with pytest.raises(DataError, match="expected YAML, found"):
        read_manifest(path)
