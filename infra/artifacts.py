"""The artifact store: directories that appear whole or not at all, on any fsspec URL."""

import hashlib
import json
import os
import posixpath
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from uuid6 import uuid7

from infra.base_model import file_sha256

MARKER = "_READY"  # written last: readers ignore a directory without it


class MissingArtifact(LookupError):
    """Nothing complete is stored under that path."""


class Tampered(ValueError):
    """A stored file's bytes are not those that were published."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Files that one published directory takes over from another, under the same names."""

    directory: str
    names: frozenset[str]


NOTHING_SHARED = Shared("", frozenset())


class ArtifactStore:
    """Paths are relative to the store's root. Published directories are never changed, but by erasures."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def write(self, path: str, data: bytes) -> None:
        """One file, written beside and moved into place; on a disk of this machine it is on that disk by then."""
        target = self._at(path)
        aside = f"{target}.{uuid7().hex}.tmp"
        self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
        self._fs.pipe_file(aside, data)
        if self._is_local:
            _sync(Path(aside))
        self._fs.mv(aside, target)

    def read(self, path: str) -> bytes:
        """Raises MissingArtifact."""
        try:
            return bytes(self._fs.cat_file(self._at(path)))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise MissingArtifact(f"{path} is not in the artifact store") from None

    def read_json(self, path: str) -> dict[str, Any]:
        return dict(json.loads(self.read(path)))

    def exists(self, path: str) -> bool:
        return bool(self._fs.exists(self._at(path)))

    def publish(self, path: str, local: Path, shared: Shared = NOTHING_SHARED) -> dict[str, str]:
        """Copies a local directory in, then the marker with the SHA-256 of each file; returns those hashes.

        `shared` files are already here, in another published directory: on a disk they become links.
        Publishing the same path twice is a no-op if it is complete already: names are never reused.
        """
        if self.is_ready(path):
            return self.hashes(path)
        hashes = {str(p.relative_to(local)): file_sha256(p) for p in sorted(local.rglob("*")) if p.is_file()}
        for name in hashes:
            self._fs.put_file(str(local / name), self._room_for(posixpath.join(path, name)))
        if shared.names:
            known = self.hashes(shared.directory)
            hashes |= {name: known[name] for name in sorted(shared.names)}
            for name in sorted(shared.names):
                self._share(posixpath.join(shared.directory, name), posixpath.join(path, name))
        self.write(posixpath.join(path, MARKER), json.dumps(hashes, sort_keys=True).encode())
        return hashes

    def open(self, path: str) -> BinaryIO:
        """For reading parts of one file; raises MissingArtifact."""
        try:
            return cast(BinaryIO, self._fs.open(self._at(path), "rb"))
        except FileNotFoundError:
            raise MissingArtifact(f"{path} is not in the artifact store") from None

    def is_ready(self, path: str) -> bool:
        return self.exists(posixpath.join(path, MARKER))

    def hashes(self, path: str) -> dict[str, str]:
        """File name -> SHA-256 as published; raises MissingArtifact where the marker is not there."""
        return {name: str(value) for name, value in self.read_json(posixpath.join(path, MARKER)).items()}

    def fetch(self, path: str, local: Path, *, without: str = "\0") -> Path:
        """Copies a complete directory out and checks every hash; raises MissingArtifact or Tampered.

        `without` is the beginning of the names of files to leave there.
        """
        wanted = {name: sha256 for name, sha256 in self.hashes(path).items() if not name.startswith(without)}
        aside = local.with_name(f"{local.name}.{uuid7().hex}.tmp")
        try:
            for name, sha256 in wanted.items():
                target = aside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self._get(posixpath.join(path, name), target)
                _check(target, sha256, name)
        except (MissingArtifact, Tampered):
            shutil.rmtree(aside)
            raise
        if local.exists():
            shutil.rmtree(local)
        aside.rename(local)
        return local

    def local_path(self, path: str) -> Path:
        """Where a directory store keeps it; raises MissingArtifact on a remote store (use fetch)."""
        if not self._is_local:
            raise MissingArtifact(f"{path} is on a remote store: fetch it")
        return Path(self._at(path))

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            if self.exists(path):
                self._fs.rm(self._at(path), recursive=True)

    def redact(self, path: str, name: str, data: bytes) -> None:
        """Takes the place of one published file, and of its hash: for erasures, the one thing that may change a past.

        Doing it again mends what was killed between the two.
        """
        self.write(posixpath.join(path, name), data)
        if self.is_ready(path):
            marked = {**self.hashes(path), name: hashlib.sha256(data).hexdigest()}
            self.write(posixpath.join(path, MARKER), json.dumps(marked, sort_keys=True).encode())

    def identity(self, path: str) -> str | None:
        """The same for a file that directories share, where the store can tell; None where nothing is there."""
        try:
            known = self._fs.info(self._at(path))
        except FileNotFoundError:
            return None
        return str(known.get("ino") or known.get("ETag") or path)

    def names(self, path: str) -> list[str]:
        """What lies directly in a directory, complete or not; empty where there is none."""
        try:
            found = self._fs.ls(self._at(path), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(name.rstrip("/")) for name in found)

    def files(self, path: str) -> list[str]:
        """Every file below a directory, by its path in it."""
        self._fs.invalidate_cache()
        root = self._fs._strip_protocol(self._at(path))
        return sorted(posixpath.relpath(name, root) for name in self._fs.find(root))

    def _get(self, path: str, target: Path) -> None:
        try:
            self._fs.get_file(self._at(path), str(target))
        except FileNotFoundError:
            raise MissingArtifact(f"{path} is not in the artifact store") from None

    def _room_for(self, path: str) -> str:
        target = self._at(path)
        self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
        return target

    def _share(self, source: str, path: str) -> None:
        target = self._room_for(path)
        if not self._is_local:
            self._fs.cp_file(self._at(source), target)
        elif not os.path.exists(target):  # half of it may be there from a try that was killed
            os.link(self._at(source), target)

    @property
    def _is_local(self) -> bool:
        return "file" in self._fs.protocol

    def _at(self, path: str) -> str:
        return posixpath.join(self._root, path)


def dump_json(value: Mapping[str, Any]) -> bytes:
    """Sorted and indented: the same content is the same bytes."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


def _check(file: Path, sha256: str, name: str) -> None:
    found = file_sha256(file)
    if found != sha256:
        raise Tampered(f"{name} has SHA-256 {found[:12]}…, published was {sha256[:12]}…")


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
