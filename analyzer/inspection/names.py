"""Names from users: file names that cannot escape or collide, and model names for the command line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from analyzer.errors import ConfigError, ModelError, OutputError

# Together with a suffix such as "_confidence_calibration_analysis.png" well below the 255 bytes of common file systems.
MAX_PLAIN_LENGTH = 64
READABLE_LENGTH = 40
# 48 bits: two of a million names collide with probability 0.2 %.
HASH_LENGTH = 12

_PLAIN = re.compile(rf"[a-z0-9](?:[a-z0-9_.-]{{0,{MAX_PLAIN_LENGTH - 2}}}[a-z0-9_-])?")
_HASHED = re.compile(rf".*-[0-9a-f]{{{HASH_LENGTH}}}")
# Names that Windows gives to devices, whatever their ending.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")


def slug(name: str) -> str:
    """A file name for any name: itself if it is plain, else its readable part and a hash of the whole.

    Plain are lower-case ASCII letters, digits, `_`, `-` and `.`, at most 64 of them, that no file system reads as
    something else. Different names have different slugs, also where case does not count: whatever has a capital letter
    or ends like a hash gets a hash.

    Args:
        name: Any string.

    Returns:
        A file name of at most 64 ASCII characters, without a separator and not starting with a dot.
    """
    if _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name) and not _HASHED.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]
    # Dots go too: "NUL.0-…" would still be the device NUL to Windows.
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-_")[:READABLE_LENGTH].rstrip("-_")
    return f"{readable or 'name'}-{digest}"


def safe_join(folder: str | Path, filename: str) -> Path:
    """The path of a file in a folder, refused if it would lie outside.

    Args:
        folder: The folder; need not exist.
        filename: A relative path below it, with `/` between its parts.

    Returns:
        `folder / filename`.

    Raises:
        OutputError: The name is empty, absolute, climbs with `..`, or passes through a link that leads out.
    """
    folder = Path(folder)
    path = folder / filename
    parts = filename.replace("\\", "/").split("/")
    is_plain = not {"", ".", ".."}.intersection(parts) and "\0" not in filename and ":" not in parts[0]
    if not is_plain or not path.resolve().is_relative_to(folder.resolve()):
        raise OutputError(
            f"The file name {filename!r} would lead out of the folder {str(folder)!r}. Expected the name of a file in "
            "it; use slug() for names that come from users."
        )
    return path


def model_names_from_paths(specs: Sequence[str]) -> dict[str, Path]:
    """Names for the model files given on a command line.

    Args:
        specs: For each model `path`, named after the file without its ending, or `name=path`. What exists as a path is
            a path, even with `=` in it.

    Returns:
        The paths by model name, in the order given.

    Raises:
        ModelError: There is no such file.
        ConfigError: A name is empty or used twice.
    """
    paths: dict[str, Path] = {}
    for spec in specs:
        name, path = _split(spec)
        if not name:
            raise ConfigError(f"{spec!r} gives an empty model name. Expected name=path or a path alone.")
        if name in paths:
            raise ConfigError(
                f"Two models would be named {name!r}: {str(paths[name])!r} and {str(path)!r}. Give each its own name "
                f"with name=path, for example {name}_2={path}."
            )
        paths[name] = path
    return paths


def _split(spec: str) -> tuple[str, Path]:
    whole = Path(spec)
    if _exists(whole):
        return whole.stem, whole
    for name, text in _readings(spec):
        # A shell expands ~ only at the start of a word, so not after "name=".
        path = Path(text).expanduser() if text.startswith("~/") else Path(text)
        if _exists(path):
            return name, path
    named = next(_readings(spec), None)
    missing = named[1] if named else spec
    origin = f" (from {spec!r})" if named else ""
    raise ModelError(f"There is no model file {missing!r}{origin}. Expected the path of a .keras file, or name=path.")


def _readings(spec: str) -> Iterator[tuple[str, str]]:
    """All ways to read a text as name=path, the shortest name first."""
    for match in re.finditer("=", spec):
        yield spec[: match.start()], spec[match.end() :]


def _exists(path: Path) -> bool:
    try:
        return path.exists() and path != Path()
    except (OSError, ValueError):  # longer than a file name can be, or with a null byte
        return False
