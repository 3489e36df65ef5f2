"""Archives made in memory for the tests of what reads them, good and hostile ones."""

import io
import tarfile
import zipfile


def zipped(*members):
    """A .zip of (name or ZipInfo, content) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return buffer.getvalue()


def tarred(*members):
    """A .tar.gz of (name or TarInfo, content) pairs; a name with None is that of a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if content is None:
                info.type = tarfile.DIRTYPE
            elif info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def special(kind, name="set/x"):
    """The header of a link or a device for `tarred`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info
