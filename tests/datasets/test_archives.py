"""Reading archives: in bounds, streamed, and nothing but plain files with safe names."""

import tarfile
import tracemalloc

import pytest

from datasets.archives import read_tar, tar_members, unpack
from datasets.errors import DataError
from tests.archives import special, tarred, zipped

RECORDS = {"set/1.txt": b"one\n", "set/2.txt": b"two\n"}
GOOD = tarred(("set/", None), *RECORDS.items())


def test_a_tar_archive_is_read_in_the_order_of_its_names(tmp_path):
    path = tmp_path / "set.tar.gz"
    path.write_bytes(tarred(*reversed(RECORDS.items())))
    assert list(read_tar(path).items()) == list(RECORDS.items())


def pax_bomb():
    """A header that says that another header of 10 MB follows, which tarfile would hold."""
    info = tarfile.TarInfo("set/x")
    info.pax_headers = {"comment": "0" * 10**7}
    return tarred((info, b""))


def sparse_bomb():
    """A file of 1 TB of which the archive holds nothing."""
    info = tarfile.TarInfo("set/x")
    size = str(10**12)
    info.pax_headers = {"GNU.sparse.size": size, "GNU.sparse.numblocks": "1"}
    info.pax_headers |= {"GNU.sparse.map": f"{size},0"}
    return tarred((info, b""))


BAD_TARS = {
    "parent": (tarred(("../x", b"")), r"unsafe archive member '\.\./x'"),
    "inner parent": (tarred(("a/../../x", b"")), "unsafe archive member 'a/"),
    "absolute": (tarred(("/etc/x", b"")), "unsafe archive member '/etc/x'"),
    "drive": (tarred(("C:\\x", b"")), "unsafe archive member 'C:"),
    "symlink": (tarred((special(tarfile.SYMTYPE), b"")), "unsafe archive member 'set/x'"),
    "hard link": (tarred((special(tarfile.LNKTYPE), b"")), "unsafe archive member 'set/x'"),
    "device": (tarred((special(tarfile.CHRTYPE), b"")), "unsafe archive member 'set/x'"),
    "fifo": (tarred((special(tarfile.FIFOTYPE), b"")), "unsafe archive member 'set/x'"),
    "twice": (tarred(("set/x", b"a"), ("set/x", b"b")), "unsafe archive member 'set/x'"),
    "sparse": (sparse_bomb(), "unsafe archive member 'set/x'"),
    "bomb": (tarred(("x", b"0" * 10**7)), "expected at most 100000 bytes in the archive"),
    "header bomb": (pax_bomb(), "expected at most 100000 bytes in the archive"),
    "cut": (GOOD[:-20], "expected a .tar.gz archive, found Compressed file ended"),
    "damaged": (GOOD[:40] + b"????" + GOOD[44:], "expected a .tar.gz archive, found"),
    "checksum": (GOOD[:-8] + bytes(8), "expected a .tar.gz archive, found CRC check failed"),
    "text": (b"nothing", "expected a .tar.gz archive, found Not a gzipped file"),
}


@pytest.mark.parametrize(("packed", "message"), BAD_TARS.values(), ids=BAD_TARS)
def test_tar_archives_that_must_not_be_read(tmp_path, packed, message):
    path = tmp_path / "set.tar.gz"
    path.write_bytes(packed)
    with pytest.raises(DataError, match=message):
        read_tar(path, limit=100_000)


def test_members_come_one_by_one_whether_they_are_read_or_not(tmp_path):
    path = tmp_path / "set.tar.gz"
    path.write_bytes(tarred(("set/", None), *((f"set/{i}", bytes([i]) * 10**7) for i in range(5))))
    tracemalloc.start()
    with tar_members(path) as members:
        found = [(name, size, content.read(i)) for i, (name, size, content) in enumerate(members)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**7 / 2
    assert found == [(f"set/{i}", 10**7, bytes([i]) * i) for i in range(5)]


def test_an_archive_is_read_to_its_end_though_its_members_are_not(tmp_path):
    path = tmp_path / "set.tar.gz"
    for packed, message in [(GOOD[:-8] + bytes(8), "CRC check"), (GOOD[:-20], "ended")]:
        path.write_bytes(packed)
        with pytest.raises(DataError, match=message), tar_members(path) as members:
            next(members)


PACK = {"set.tar.gz": tarred, "set.zip": zipped}
packers = pytest.mark.parametrize("name", PACK)


@packers
def test_one_member_is_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(PACK[name](*RECORDS.items()))
    unpack(tmp_path / name, "set/2.txt", 4, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"two\n"


@packers
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], r"expected archive member 'set/2\.txt', found none"),
        ([("set/1.txt", b"two\n"), ("a", b"")], r"member 'set/2\.txt', found set/1\.txt, a"),
        ([("set/2.txt", b"two")], r"member 'set/2\.txt': expected 4 bytes, found 3"),
        ([("set/2.txt", b"0" * 10**7)], r"member 'set/2\.txt': expected 4 bytes, found 10000000"),
        ([("set/2.txt", b"two\n"), ("../x", b"")], r"unsafe archive member '\.\./x'"),
        ([("set/2.txt", b"two\n"), ("/etc/x", b"")], "unsafe archive member '/etc/x'"),
        ([("set/2.txt", b"two\n"), ("C:\\x", b"")], "unsafe archive member 'C:"),
        ([("set/2.txt", b"two\n"), ("a", b""), ("a", b"")], "unsafe archive member 'a'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_is_not_unpacked_from(tmp_path, name, members, message):
    path = tmp_path / name
    path.write_bytes(PACK[name](*members))
    with pytest.raises(DataError, match=message):
        unpack(path, "set/2.txt", 4, tmp_path / "target")


def test_a_link_behind_the_member_and_a_damaged_end_are_found(tmp_path):
    path = tmp_path / "set.tar.gz"
    bad = {
        "unsafe archive member 'set/x'": tarred(*RECORDS.items(), (special(tarfile.SYMTYPE), b"")),
        "expected a .tar.gz archive, found CRC check failed": GOOD[:-8] + bytes(8),
    }
    for message, packed in bad.items():
        path.write_bytes(packed)
        with pytest.raises(DataError, match=message):
            unpack(path, "set/1.txt", 4, tmp_path / "target")
