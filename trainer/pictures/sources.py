"""What an import is given: folders, zips and single files, each laid on shelves."""

import stat
import struct
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from trainer.contract.errors import UserError
from trainer.pictures.captions import CAPTION_SUFFIXES, encoding_of
from trainer.pictures.decode import (
    BEGINNING,
    FOREIGN_SUFFIXES,
    MAX_FILE_BYTES,
    PICTURE_SUFFIXES,
    looks_like_picture,
    read_bytes,
)
from trainer.pictures.listing import begin_file, is_there, natural_key, visible
from trainer.pictures.listings import LISTING_NAMES, LISTING_SUFFIXES
from trainer.pictures.shelves import MASK_ENDING, NO_FILE, File, Finds, Place, Rejected, Shelf, folder_files, gather
from trainer.pictures.storing import read_member, read_part

MAX_ZIP_BYTES = 16 * 2**30  # unpacked, where that is more than MAX_RATIO times the zip
MAX_RATIO = 100
MAX_NAME = 1000  # letters of a member's name that are kept, from its end; no system can unpack a longer one
MAX_DIRECTORY_BYTES = 32 * 2**20  # of a zip's list of files, which is read whole: some 300 000 names


def find_pictures(sources: Sequence[Path], destination: Path) -> Finds:
    """List the pictures in `sources`; nothing is decoded.

    Args:
        sources: pictures, folders and zips that exist.
        destination: passed over where it lies inside a source.
    """
    finds = Finds()
    single: list[Path] = []
    for source in sources:
        if source.is_dir():
            files = folder_files(source, destination, finds)
            gather(_shelf(str(source), PurePosixPath(source.resolve().name), files), finds)
        elif is_zip(source):
            _gather_zip(source, finds)
        elif is_there(source):
            single.append(source)
        else:  # a pipe, which would be waited for, or a device, which has no end
            finds.rejected.append(Rejected(str(source), NO_FILE))
    again = Counter(single)
    while again:  # what is given twice is found twice, and will be called a duplicate
        _gather_single(list(again), finds)
        again -= Counter(list(again))
    return finds


def is_zip(path: Path) -> bool:
    """Whether a file is taken for a zip."""
    suffix = path.suffix.lower()
    if not is_there(path) or suffix in PICTURE_SUFFIXES:
        return False
    return not looks_like_picture(begin_file(path)) if suffix == ".zip" else zipfile.is_zipfile(path)


def _shelf(label: str, root: PurePosixPath, files: Sequence[File]) -> Shelf:
    def read(place: Place, limit: int) -> bytes:
        return read_bytes(Path(place.path), limit)

    return Shelf(label, root, files, read, lambda place: begin_file(Path(place.path)))


def _gather_single(given: Sequence[Path], finds: Finds) -> None:
    """Pictures given one by one, with the captions beside them or given along with them.

    A browser puts each uploaded file in a folder of its own, so there a caption belongs to the picture of its name.
    """
    helpers = {path for path in given if _is_helper(path)}
    listings = [path for path in given if path in helpers and path.suffix.lower() in LISTING_SUFFIXES]
    texts, folders = defaultdict(list), defaultdict(list)
    for path in given:
        if path not in helpers:
            folders[path.parent].append(path)
        elif path.suffix.lower() in CAPTION_SUFFIXES:
            texts[path.stem].append(path)
    for folder, here in folders.items():
        names = [f"{path.stem}{ending}" for path in here for ending in (*CAPTION_SUFFIXES, f"{MASK_ENDING}.png")]
        beside = [folder / name for name in (*names, *LISTING_NAMES) if (folder / name).is_file()]
        along = [path for stem in {path.stem: None for path in here} for path in texts[stem]]
        files = {path.name: path for path in (*listings, *along, *beside, *here)}  # what lies beside counts more
        listed = [File(PurePosixPath(name), Place(str(path.absolute()))) for name, path in files.items()]
        gather(_shelf(str(folder), PurePosixPath(), listed), finds)
    stems = {path.stem for here in folders.values() for path in here}
    alone = [path for stem, paths in texts.items() if stem not in stems for path in paths]
    if alone:
        some = ", ".join(map(str, alone[:5])) + (", ..." if len(alone) > 5 else "")
        finds.notes.append(f"{some}: there is no picture of that name.")
    finds.others += len(alone)


def _is_helper(path: Path) -> bool:
    """Whether a file says something of pictures; one that is a picture itself is called wrong."""
    helps = path.suffix.lower() in (*CAPTION_SUFFIXES, *LISTING_SUFFIXES)
    return helps and not looks_like_picture(begin_file(path))


def _gather_zip(source: Path, finds: Finds) -> None:
    try:
        _check_directory(source)
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()

            def read(place: Place, limit: int) -> bytes:
                return read_member(archive, members[place.member or 0], limit)

            def begin(place: Place) -> bytes:
                try:
                    return read_part(archive, members[place.member or 0], BEGINNING)
                except UserError:
                    return b""  # it is counted as no picture, and named

            files = _zip_files(source, members, finds)
            gather(Shelf(str(source), PurePosixPath(), files, read, begin), finds)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, struct.error, NotImplementedError) as error:
        finds.rejected.append(Rejected(str(source), f"The zip is damaged ({error}). Pack or download it again."))
    except UserError as error:
        finds.rejected.append(Rejected(str(source), f"{error.problem} {error.fix}"))


def _check_directory(source: Path) -> None:
    """Refuse a zip whose list of files would fill the memory (APPNOTE 4.3.14 and 4.3.16 say how long it is)."""
    with source.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 65_600))
        tail = file.read()
    end, end64 = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    size = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    if end64 >= 0:  # zipfile believes this one, whatever the other says
        size = int.from_bytes(tail[end64 + 40 : end64 + 48], "little")
    if size > MAX_DIRECTORY_BYTES:
        problem = f"The zip's list of files has {size / 2**20:.0f} MiB; {MAX_DIRECTORY_BYTES // 2**20} MiB are read."
        raise UserError(problem, str(source), "Pack the pictures into several zips.")


def _zip_files(source: Path, members: Sequence[zipfile.ZipInfo], finds: Finds) -> list[File]:
    """The members that may be read, in natural order; nothing is ever unpacked by its name."""
    overlapping = _overlapping(members)
    left = max(MAX_ZIP_BYTES, MAX_RATIO * source.stat().st_size)
    files: list[File] = []
    astray: list[str] = []
    unused: dict[str, list[PurePosixPath]] = {}
    named = [(_member_name(info), index) for index, info in enumerate(members) if not info.is_dir()]
    for name, index in sorted(named, key=lambda pair: (natural_key(pair[0]), pair[1])):
        info, suffix = members[index], name.suffix.lower()
        if not all(map(visible, name.parts)):
            finds.others += 1
            continue
        reason = _refusal(info, index in overlapping, left)
        if not reason:
            left -= info.file_size
            files.append(File(name, Place(str(source.absolute()), index)))
            astray += [info.filename] if _leads_out(info.filename) else []
        elif suffix in PICTURE_SUFFIXES | FOREIGN_SUFFIXES or suffix == ".zip":
            finds.rejected.append(Rejected(f"{source}/{name}", reason))
        else:
            finds.others += 1
            unused.setdefault(reason, []).append(name)
    for reason, names in unused.items():
        others = f" and {len(names) - 1} others were" if len(names) > 1 else " was"
        finds.notes.append(f"{source}/{names[0]}{others} not used: {reason}")
    if astray:
        what = f"{len(astray)} names lead out of the zip" if len(astray) > 1 else "a name leads out of the zip"
        finds.notes.append(f"{source}: {what} ({astray[0]!r}); only what is behind that was kept of it.")
    return files


def _refusal(info: zipfile.ZipInfo, overlaps: bool, left: int) -> str:
    """Why a member is not read, "" where it is. That it states the truth is seen to when it is read."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    allowed = min(MAX_FILE_BYTES, left)
    checks = {
        "The zip has a password. Unpack it and import the folder.": bool(info.flag_bits & 1),
        "It is a link or a device, not a file. Import the file that it leads to.": kind not in (0, stat.S_IFREG),
        "It shares its bytes with another part of the zip, as zip bombs do. Pack it again.": overlaps,
        f"It unpacks to more than {allowed // 2**20} MiB. Import it by itself.": info.file_size > allowed,
    }
    return next((reason for reason, found in checks.items() if found), "")


def _overlapping(members: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Members that begin before the one ahead of them in the file has ended."""
    found, end = set[int](), 0
    for index, info in sorted(enumerate(members), key=lambda pair: pair[1].header_offset):
        if info.header_offset < end:
            found.add(index)
        end = max(end, info.header_offset + 30 + len(info.filename) + info.compress_size)  # APPNOTE 4.3.7
    return found


def _member_name(info: zipfile.ZipInfo) -> PurePosixPath:
    """A member's name as text, without what would lead out of the zip."""
    text = info.filename
    if not info.flag_bits & 0x800:  # not said to be UTF-8, so zipfile took it for cp437, as old programs mean it
        said = encoding_of(text.encode("cp437"))  # macOS packs UTF-8 all the same, Japanese Windows its own letters
        text = text if said == "cp1252" else text.encode("cp437").decode(said, errors="replace")
    parts = [part for part in _parts(unicodedata.normalize("NFC", text[-MAX_NAME:])) if not _goes_up(part)]
    return PurePosixPath(*parts) if parts else PurePosixPath("unnamed")


def _parts(name: str) -> list[str]:
    return name.replace("\\", "/").split("/")  # old Windows tools part folders so, against APPNOTE 4.4.17


def _goes_up(part: str) -> bool:
    return part in ("", ".", "..") or part.endswith(":")


def _leads_out(name: str) -> bool:
    return any(_goes_up(part) for part in _parts(name))
