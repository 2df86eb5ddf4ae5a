"""Pictures, zips and folders that the tests of importing are about."""

import hashlib
import io
import zipfile

from PIL import Image

from trainer.pictures.album import locate, open_album
from trainer.pictures.decode import decode_picture, read_bytes


def picture(path, colour="red", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 4), colour).save(path, **options)
    return path


def encoded(colour="red", kind="PNG", size=(8, 4), **options):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **options)
    return file.getvalue()


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, data)
    return path


def captions(folder):
    return {entry.name: entry.captions for entry in open_album(folder).entries}


def read_all(folder):
    """The files of a set, each decoded to its last pixel."""
    files = [locate(folder, entry.file) for entry in open_album(folder).entries if not entry.excluded]
    for file in files:
        decode_picture(read_bytes(file), str(file))
    return files


def tree(folder):
    """Every file below a folder with a digest of its bytes and the time of its last change."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
