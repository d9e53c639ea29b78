"""Folders and object stores behind one set of names; every path is a folder or a URI.

A path with a scheme other than file:// goes to pyarrow.fs (s3://, gs://, abfss://, hdfs://);
credentials and endpoints come from the environment, as the store's own tools read them. Anything
else is a local path. Paths are joined with "/" and never percent-decoded, so a recording may be
named with spaces, quotes or percent signs.

Errors: what the store says about a file (FileNotFoundError, PermissionError, ...) is an OSError and
passes through, because only the caller knows whether the file was a checkpoint, a table or a
recording. A path that cannot be one at all is a ConfigError.
"""

import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow import fs

from sleepmami.errors import ConfigError

MANIFEST = "manifest.json"  # of a checkpoint folder: vouches for the other files, so goes last
_SECOND_NS = 1_000_000_000
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")


def is_local(uri: str) -> bool:
    """Whether the path lies on this machine's file system."""
    match = _SCHEME.match(uri)
    return match is None or match[1].lower() == "file"


def absolute(uri: str) -> str:
    """The same place in any working directory: a local path made absolute, a URI as it is."""
    return _local_path(uri) if is_local(uri) else uri.rstrip("/")


def join(base: str, *parts: str) -> str:
    """The path below `base`; `parts` are relative and use "/"."""
    for part in parts:
        if part.startswith("/") or _SCHEME.match(part):
            raise ConfigError(f"cannot place {part!r} below {base!r}; expected a relative path")
    stem = base.rstrip("/") if base.strip("/") else base[:1]
    tail = "/".join(part.strip("/") for part in parts if part.strip("/"))
    if not stem or not tail:
        return stem or tail
    return stem + tail if stem == "/" else f"{stem}/{tail}"


def exists(uri: str) -> bool:
    """Whether there is a file or a folder; in an object store, whether anything lies below."""
    if is_local(uri):
        return os.path.exists(_local_path(uri))
    filesystem, path = _resolve(uri)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def is_nameable(path: str) -> bool:
    """Whether the path is UTF-8, as tables and terminals need it; a local file's may be not."""
    return shown(path) == path


def shown(path: str) -> str:
    """The path for people and tables: a byte that is not UTF-8 as its number behind a backslash."""
    try:
        raw = path.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a pair of UTF-16, in no file's name here
        raw = path.encode(errors="surrogatepass")
    return raw.decode(errors="backslashreplace")


def list_files(
    folder: str, suffixes: tuple[str, ...], recursive: bool = True, *, any_name: bool = False
) -> list[str]:
    """Sorted absolute paths of the files whose name ends in one of `suffixes`, in any case.

    Hidden files and folders (also the "._" twins macOS leaves on shared disks) are not recordings
    and are passed over. Links to folders are followed, each folder once. A link that leads nowhere
    is listed: it is for the caller to say that this file cannot be read.

    Args:
        folder: where.
        suffixes: of the names.
        recursive: also what lies in folders below.
        any_name: list files whose name is not UTF-8 as well, which `is_nameable` tells from others.

    Raises:
        ConfigError: no such folder, or a file name that is not UTF-8 and so fits no table.
    """
    base = absolute(folder)
    found = _walk_local(base, recursive) if is_local(folder) else _walk_remote(base, recursive)
    return _visible(base, found, suffixes, any_name)


def list_stamps(
    folder: str, suffixes: tuple[str, ...], *, any_name: bool = False
) -> dict[str, str]:
    """The files of `list_files`, each with a stamp that is another after the file has changed.

    The stamp is a hash of size and time of change, both read with the listing. It is empty for what
    is no readable file, and where the time has whole seconds and is so recent that the file may
    change again within the same second.

    Raises:
        ConfigError: as `list_files`.
    """
    base = absolute(folder)
    if is_local(folder):
        files = list_files(folder, suffixes, any_name=any_name)
        return {file: _local_stamp(file) for file in files}
    infos = _remote_files(base, recursive=True)
    stamps = {join(base, name): _stamp(i.size, i.mtime_ns) for name, i in infos.items()}
    return {file: stamps[file] for file in _visible(base, infos, suffixes, any_name)}


def read_bytes(uri: str) -> bytes:
    """The whole file. OSError when it cannot be read."""
    if is_local(uri):
        return Path(_local_path(uri)).read_bytes()
    filesystem, path = _resolve(uri)
    with filesystem.open_input_stream(path, compression=None) as stream:
        return cast("bytes", stream.read())


@contextmanager
def reading(uri: str) -> Iterator[BinaryIO]:
    """A file to read in parts, from its first byte on. OSError when it cannot be opened."""
    if is_local(uri):
        with open(_local_path(uri), "rb") as file:
            yield file
        return
    filesystem, path = _resolve(uri)
    with filesystem.open_input_stream(path, compression=None) as stream:
        yield io.BufferedReader(stream)


def write_bytes(uri: str, data: bytes) -> None:
    """Write the whole file or nothing, folders made as needed; an old file is replaced.

    A local file is written under a temporary name beside its place, flushed to disk and renamed;
    an object store makes an object visible only when it is complete.
    """
    if not is_local(uri):
        filesystem, path = _resolve(uri)
        if path.count("/"):
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(data)
        return
    with _written_beside(uri) as file:
        file.write(data)


@contextmanager
def writing(uri: str) -> Iterator[BinaryIO]:
    """A file to write in parts, which is in its place when the block ends, and not after an error.

    What goes to an object store lies in a temporary file here until then.
    """
    if is_local(uri):
        with _written_beside(uri) as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as spool:
        yield spool
        spool.seek(0)
        filesystem, path = _resolve(uri)
        if path.count("/"):
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(path, compression=None) as output:
            shutil.copyfileobj(spool, output)


@contextmanager
def _written_beside(uri: str) -> Iterator[BinaryIO]:
    """A local file under a temporary name beside its place, renamed when it is on the disk."""
    target = _local_path(uri)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    temporary = os.path.join(os.path.dirname(target), f".writing-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):  # only when something failed
            os.unlink(temporary)


def delete(uri: str) -> None:
    """Delete a file, or a folder and all it holds; nothing happens when there is neither.

    Raises:
        ConfigError: the path is a whole file system or bucket.
    """
    filesystem, path = _resolve(uri)
    if not path.strip("/") or (not is_local(uri) and "/" not in path.strip("/")):
        raise ConfigError(f"refusing to delete {uri!r}; expected a path inside it")
    if is_local(uri) and os.path.islink(path):
        os.unlink(path)
        return
    kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.Directory:
        filesystem.delete_dir(path)
    elif kind != fs.FileType.NotFound:
        filesystem.delete_file(path)


def upload_folder(local: str, uri: str) -> None:
    """Copy every file of a local folder below `uri`.

    The top manifest goes last, so that an interrupted copy never looks like a whole checkpoint.

    Raises:
        ConfigError: no such folder.
    """
    _copy_folder(_local_path(local), uri)


def download_folder(uri: str, local: str) -> None:
    """Copy every file below `uri` into a local folder, the top manifest last.

    Raises:
        ConfigError: no such folder.
    """
    _copy_folder(uri, _local_path(local))


def _copy_folder(source: str, target: str) -> None:
    base = absolute(source)
    found = _walk_local(base, True) if is_local(source) else _walk_remote(base, True)
    for relative in sorted(found, key=lambda name: (name == MANIFEST, name)):
        write_bytes(join(target, relative), read_bytes(join(base, relative)))


def _walk_local(base: str, recursive: bool) -> list[str]:
    """Relative paths of all files; like os.walk, but a loop of links ends."""
    if os.path.isfile(base):
        raise ConfigError(f"{base}: found a file; expected a folder: give the one that it lies in")
    if not os.path.isdir(base):
        raise ConfigError(f"{base}: found no folder there; expected an existing folder")
    seen = {os.path.realpath(base)}
    found = []
    for folder, subfolders, files in os.walk(base, followlinks=True):
        relative = os.path.relpath(folder, base)
        found += [name if relative == "." else f"{relative}/{name}" for name in files]
        fresh = []
        for name in sorted(subfolders) if recursive else ():
            real = os.path.realpath(os.path.join(folder, name))
            if real not in seen:
                seen.add(real)
                fresh.append(name)
        subfolders[:] = fresh
    return found


def _walk_remote(base: str, recursive: bool) -> list[str]:
    return list(_remote_files(base, recursive))


def _remote_files(base: str, recursive: bool) -> dict[str, fs.FileInfo]:
    """By path below `base`."""
    filesystem, path = _resolve(base)
    try:
        infos = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{base}: found nothing there; expected an existing folder") from None
    root = path.rstrip("/") + "/"
    return {i.path.removeprefix(root): i for i in infos if i.type == fs.FileType.File}


def _visible(
    base: str, found: Iterable[str], suffixes: tuple[str, ...], any_name: bool
) -> list[str]:
    """Sorted paths of the relative ones that `list_files` is asked for."""
    endings = tuple(suffix.lower() for suffix in suffixes)
    kept = []
    for relative in found:
        if any(part.startswith(".") for part in relative.split("/")):
            continue
        if relative.lower().endswith(endings):
            if not any_name and not is_nameable(relative):
                raise ConfigError(f"{base}: found the file name {shown(relative)}; expected UTF-8")
            kept.append(join(base, relative))
    return sorted(kept)


def _local_stamp(file: str) -> str:
    try:
        state = os.stat(file)
    except OSError:
        return ""
    return _stamp(state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else ""


def _stamp(size: int, mtime_ns: int | None) -> str:
    if mtime_ns is None:  # a store that does not say
        return ""
    if mtime_ns % _SECOND_NS == 0 and time.time_ns() - mtime_ns < 2 * _SECOND_NS:
        return ""
    return hashlib.sha256(f"{size} {mtime_ns}".encode()).hexdigest()[:16]


def _local_path(uri: str) -> str:
    return os.path.abspath(os.path.expanduser(re.sub(r"^file://", "", uri, flags=re.IGNORECASE)))


def _resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path inside it."""
    if is_local(uri):
        return fs.LocalFileSystem(), _local_path(uri)
    scheme, _, rest = uri.partition("://")
    authority, _, key = rest.partition("/")
    filesystem, root = _remote_filesystem(scheme.lower(), authority)
    # joined by hand: pyarrow would percent-decode the key, and refuse one with spaces
    return filesystem, "/".join(part for part in (root.rstrip("/"), key.strip("/")) if part)


@lru_cache(maxsize=16)
def _remote_filesystem(scheme: str, authority: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, root = fs.FileSystem.from_uri(f"{scheme}://{authority}/")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(
            f"{scheme}://{authority}: {error}; expected a folder or s3://, gs://, abfss://, hdfs://"
        ) from None
    return filesystem, cast("str", root)
