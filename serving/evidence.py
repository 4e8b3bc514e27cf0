"""Read-only local copies of what is registered, so that nothing the trainer does reaches a live adapter."""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from infra.artifacts import ArtifactStore, MissingArtifact, Tampered
from infra.base_model import file_sha256
from infra.contracts.manifests import AdapterManifest, Evidence
from serving.adapters import BaseShapes, validate
from serving.errors import Refused

EVIDENCE = "evidence.json"
READ_ONLY_FILE, READ_ONLY_DIRECTORY, WRITABLE_DIRECTORY = 0o444, 0o555, 0o755


class Shelf:
    """`home/serving/adapters/<version>`: fetched once, checked each time before a load. `bases` begin with that of
    `serving.model`."""

    def __init__(self, home: Path, store: ArtifactStore, bases: Sequence[BaseShapes], max_rank: int) -> None:
        self._root = home / "serving" / "adapters"
        self._store, self._bases, self._max_rank = store, bases, max_rank
        self._taking: defaultdict[str, Lock] = defaultdict(Lock)

    def take(self, manifest: AdapterManifest, path: str) -> Path:
        """The directory to load from, valid; a copy that went bad is fetched again. Raises Refused.

        Replicas take turns: a second fetch would pull the directory away from an engine that reads the first.
        """
        with self._taking[manifest.version]:
            return self._take(path, self._root / manifest.version, manifest)

    def _take(self, path: str, local: Path, manifest: AdapterManifest) -> Path:
        if local.is_dir():
            self._renew(path, local)
            try:
                return self._validated(local, manifest)
            except Refused:
                local.chmod(WRITABLE_DIRECTORY)
        return self._validated(self._fetch(path, local), manifest)

    def evidence(self, version: str) -> Evidence:
        """Of a version taken before. One without measurements is empty: gates call that inconclusive."""
        file = self._root / version / EVIDENCE
        try:
            found = Evidence.model_validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return Evidence(version=version, champion="")
        return found if found.version == version else Evidence(version=version, champion="")

    def _renew(self, path: str, local: Path) -> None:
        """An erasure takes words out of the evidence that is published, and says so in the marker: then here too."""
        file = local / EVIDENCE
        try:
            published = self._store.hashes(path).get(EVIDENCE)
            if published is None or not file.is_file() or file_sha256(file) == published:
                return
            found = self._store.read(f"{path}/{EVIDENCE}")
        except MissingArtifact:
            return
        if hashlib.sha256(found).hexdigest() == published:
            local.chmod(WRITABLE_DIRECTORY)
            file.unlink()
            file.write_bytes(found)
            file.chmod(READ_ONLY_FILE)
            local.chmod(READ_ONLY_DIRECTORY)

    def _validated(self, local: Path, manifest: AdapterManifest) -> Path:
        base = next((one for one in self._bases if one.revision == manifest.base_revision), self._bases[0])
        validate(local, manifest, base, self._max_rank)
        return local

    def _fetch(self, path: str, local: Path) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        self._sweep(local.name)
        try:
            self._store.fetch(path, local)
        except (MissingArtifact, Tampered) as error:
            raise Refused(str(error)) from None
        for file in local.rglob("*"):
            file.chmod(READ_ONLY_FILE if file.is_file() else READ_ONLY_DIRECTORY)
        local.chmod(READ_ONLY_DIRECTORY)
        return local

    def _sweep(self, version: str) -> None:
        """What a fetch that was killed has left behind."""
        for aside in self._root.glob(f"{version}.*.tmp"):
            shutil.rmtree(aside)
