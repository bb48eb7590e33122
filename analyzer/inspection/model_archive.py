"""What a `.keras` file is made of, looked at without Keras and before anything is unpacked or rebuilt.

A `.keras` file is a zip of `metadata.json`, `config.json`, `model.weights.h5` and perhaps `assets/`. Everything here
only reads: no member is extracted under its own name, and no link inside the HDF5 file is followed before its kind is
known.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, Any

from analyzer.errors import MissingExtraError, ModelError, UnsafeModelError

if TYPE_CHECKING:
    import h5py

CONFIG_MEMBER = "config.json"
METADATA_MEMBER = "metadata.json"
WEIGHTS_MEMBER = "model.weights.h5"

# Keras writes three members and one per asset (a vocabulary, a tokenizer). Ten thousand is far beyond any model and
# still read in well under a second.
MAX_MEMBERS = 10_000
# The largest architecture of keras.applications needs 2 MB of JSON, a vocabulary of a million tokens about 20 MB.
MAX_JSON_BYTES = 128 * 2**20
# Keras stores members uncompressed, and trained floats packed again by hand shrink by a tenth. Deflate reaches 1,032:1
# on zeros alone, which is what a decompression bomb is made of.
MAX_EXPANSION = 100
# Below this size an expansion is harmless, whatever its ratio.
EXPANSION_FLOOR_BYTES = 64 * 2**20
# A group or dataset per variable: the largest models have some ten thousand.
MAX_HDF5_LINKS = 1_000_000
# Nested models nest groups, two or three per level. Thousands of levels only serve to exhaust the reader's stack.
MAX_HDF5_DEPTH = 200

_ENCRYPTED = 0x1  # bit 0 of a member's flags


@dataclass(frozen=True, kw_only=True)
class ModelArchive:
    """The JSON documents of a `.keras` file whose structure has been found sound.

    Attributes:
        config: `config.json`: the root object's `module`, `class_name`, `config`, `build_config`, `compile_config`.
        metadata: `metadata.json`, empty if absent.
    """

    config: dict[str, Any]
    metadata: dict[str, Any]


def read_archive(path: Path) -> ModelArchive:
    """Check the structure of a `.keras` file and read its two JSON documents.

    Args:
        path: An existing regular file.

    Returns:
        Its documents.

    Raises:
        ModelError: The file is empty, truncated, damaged, no zip, or lacks a part.
        UnsafeModelError: It is built to escape its folder, to exhaust memory or disk, or to read other files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            _check_contents(archive, path)
            config = _read_json(archive, CONFIG_MEMBER, path)
            has_metadata = METADATA_MEMBER in archive.namelist()
            metadata = _read_json(archive, METADATA_MEMBER, path) if has_metadata else {}
            _check_weights(archive, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise ModelError(_damaged(path, error)) from error
    except OSError as error:
        raise ModelError(f"{path.name}: cannot be read ({error}). Check the file and its permissions.") from error
    return ModelArchive(config=config, metadata=metadata)


def _damaged(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    if size == 0:
        return f"{path.name}: the file is empty (0 bytes). Save the model again with model.save({path.name!r})."
    return (
        f"{path.name}: not a readable .keras file ({size} bytes; {error}). A .keras file is a zip archive; this one "
        "is truncated, damaged or of another format. Copy or download it again, or save the model again."
    )


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise UnsafeModelError(
            f"{path.name}: the archive has {len(members)} members, more than the {MAX_MEMBERS} that any Keras model "
            "needs. It was not written by Keras; do not load it."
        )
    names = [member.filename for member in members]
    for name in names:
        if _escapes(name):
            raise UnsafeModelError(
                f"{path.name}: the member {name!r} would be unpacked outside its folder. Keras writes no such names; "
                "do not load this file."
            )
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise UnsafeModelError(
            f"{path.name}: the member {name!r} is there {count} times, so that two readers can see two different "
            "models. Keras writes each member once; do not load this file."
        )
    for member in members:
        if member.flag_bits & _ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelError(
                f"{path.name}: the member {member.filename!r} is encrypted or packed in a way that Keras does not use. "
                "Expected an archive as model.save() writes it."
            )
        _check_expansion(member.filename, member.file_size, member.compress_size, path)
    _check_expansion("(all together)", sum(m.file_size for m in members), path.stat().st_size, path)
    missing = [name for name in (CONFIG_MEMBER, WEIGHTS_MEMBER) if name not in names]
    if missing:
        raise ModelError(
            f"{path.name}: the archive has no {' and no '.join(missing)} (it has {', '.join(names[:5]) or 'nothing'}). "
            "Expected a model written by Keras 3 with model.save('name.keras')."
        )


def _escapes(name: str) -> bool:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return posix.is_absolute() or bool(windows.anchor) or ".." in windows.parts or "\0" in name


def _check_expansion(name: str, size: int, stored: int, path: Path) -> None:
    if size > EXPANSION_FLOOR_BYTES and size > MAX_EXPANSION * stored:
        raise UnsafeModelError(
            f"{path.name}: the member {name} unpacks to {size} bytes from {stored} stored ones, more than "
            f"{MAX_EXPANSION} times its size. That is a decompression bomb; do not load this file."
        )


def _check_contents(archive: zipfile.ZipFile, path: Path) -> None:
    """Read every member through once: a flipped bit or a missing end shows in its checksum."""
    damaged = archive.testzip()
    if damaged is not None:
        raise ModelError(
            f"{path.name}: the checksum of the member {damaged!r} is wrong, so the file is damaged. Copy or download "
            "it again."
        )


def _read_json(archive: zipfile.ZipFile, member: str, path: Path) -> dict[str, Any]:
    size = archive.getinfo(member).file_size
    if size > MAX_JSON_BYTES:
        raise UnsafeModelError(
            f"{path.name}: {member} has {size} bytes, more than the {MAX_JSON_BYTES} that any architecture needs; "
            "parsing it could exhaust the memory."
        )
    try:
        document = json.loads(archive.read(member))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name}: {member} is not readable JSON ({error}). Save the model again.") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path.name}: {member} holds a {type(document).__name__}, expected an object.")
    return document


class _StoredMember(io.RawIOBase):
    """An uncompressed member as a seekable file, straight from the archive's own bytes.

    `zipfile` rewinds and reads again on every backward seek; HDF5 jumps about, which makes that quadratic.
    """

    def __init__(self, path: Path, member: zipfile.ZipInfo) -> None:
        self._file = path.open("rb")
        self._file.seek(member.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", self._file.read(4))
        self._start = member.header_offset + 30 + name_length + extra_length
        self._size = member.file_size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._position)
        data = self._file.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_seekable(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> IO[bytes] | io.RawIOBase:
    if member.compress_type == zipfile.ZIP_STORED:
        return _StoredMember(path, member)
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with archive.open(member) as packed:
        shutil.copyfileobj(packed, unpacked)
    unpacked.seek(0)
    return unpacked


def _check_weights(archive: zipfile.ZipFile, path: Path) -> None:
    """Walk the HDF5 tree without following a link or reading an array."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("Reading a .keras file needs h5py; it comes with Keras: pip install keras") from error
    with _open_seekable(archive, archive.getinfo(WEIGHTS_MEMBER), path) as member:
        try:
            with h5py.File(member, "r") as weights:
                _walk_groups(weights, path)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(
                f"{path.name}: {WEIGHTS_MEMBER} is not readable HDF5 ({error}). Save the model again."
            ) from error


def _walk_groups(root: h5py.Group, path: Path) -> None:
    import h5py

    pending: list[tuple[h5py.Group, int]] = [(root, 0)]
    seen, n_links = {h5py.h5o.get_info(root.id).addr}, 0
    while pending:
        group, depth = pending.pop()
        for name in group:
            n_links += 1
            if n_links > MAX_HDF5_LINKS or depth > MAX_HDF5_DEPTH:
                raise UnsafeModelError(
                    f"{path.name}: {WEIGHTS_MEMBER} has more than {MAX_HDF5_LINKS} entries or {MAX_HDF5_DEPTH} levels; "
                    "it was built to exhaust its reader. Do not load this file."
                )
            _check_link(group, name, path)
            child = group[name]
            if isinstance(child, h5py.Dataset):
                _check_dataset(child, path)
            elif isinstance(child, h5py.Group):
                address = h5py.h5o.get_info(child.id).addr
                if address not in seen:
                    seen.add(address)
                    pending.append((child, depth + 1))


def _check_link(group: h5py.Group, name: str, path: Path) -> None:
    import h5py

    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise UnsafeModelError(
            f"{path.name}: {f'{group.name}/{name}'.replace('//', '/')!r} in {WEIGHTS_MEMBER} is a "
            f"{type(link).__name__}, which can make the reader open other files. Keras writes none; do not load this "
            "file."
        )


def _check_dataset(dataset: h5py.Dataset, path: Path) -> None:
    kind = "a virtual" if dataset.is_virtual else "an external" if dataset.external else None
    if kind is not None:
        raise UnsafeModelError(
            f"{path.name}: {dataset.name!r} in {WEIGHTS_MEMBER} is {kind} dataset, which reads its values from other "
            "files. Keras writes none; do not load this file."
        )
    declared = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
    _check_expansion(f"{WEIGHTS_MEMBER}:{dataset.name}", declared, dataset.id.get_storage_size(), path)
