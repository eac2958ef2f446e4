"""kfp's cache of steps' results, which knows an artifact by its content, and shares it by a store."""

import json
import re
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.local import cache

from potstill import tracking
from potstill.errors import UserError
from potstill.follow import Follower
from potstill.local.kept import keep, restore
from potstill.shelves import shelf_behind
from potstill.store import Shelf, write_text

RUNS, ENTRIES = "runs", "cache"
# Stands in a kept entry for the folder of runs, which lies elsewhere on each machine.
ROOT = "{root}"


class DigestCache(cache.LocalCache):
    """kfp's local cache, which knows an artifact by its content instead of its place.

    Ingest always runs, into a new folder each time; equal rows must still find the results made from them. With a store
    results are kept there too, and found by other machines.
    """

    def __init__(self, cache_root: str, follower: Follower, store: Shelf | None = None) -> None:
        super().__init__(cache_root)
        self._follower = follower
        self._store = store
        self._root = Path(cache_root).parent
        self._asked: dict[str, str] = {}

    @staticmethod
    def _serialize_value_for_key(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: DigestCache._serialize_value_for_key(entry) for name, entry in value.items()}
        if isinstance(value, list):
            return [DigestCache._serialize_value_for_key(entry) for entry in value]
        if isinstance(value, dsl.Artifact) and "digest" in value.metadata:
            return {"schema_title": value.schema_title, "digest": value.metadata["digest"]}
        return cache.LocalCache._serialize_value_for_key(value)

    def compute_key(
        self, component_name: str, image: str, full_command: list[str], arguments: dict[str, Any], *more: Any, **by: Any
    ) -> str:
        """The key, remembered with the step that asked for it: a component of several steps is told which it is."""
        key: str = super().compute_key(component_name, image, full_command, arguments, *more, **by)
        # kfp numbers the tasks of one component.
        step = re.sub(r"^comp-|-\d+$", "", component_name)
        self._asked[key] = tracking.name_of(step, arguments.get("variant", ""))
        return key

    def get(self, key: str) -> dict[str, Any] | None:
        """Cached outputs, announced to the follower."""
        found: dict[str, Any] | None = super().get(key)
        if found is None or not all(map(_is_there, found.values())):
            found = super().get(key) if self._brought_back(key) else None
        if found is not None:
            self._follower.reused(self._asked[key])
        return found

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        """Remember outputs, here and in the store, whose being out of reach ends no run."""
        super().put(key, outputs)
        if self._store is None:
            return
        try:
            for path in _paths(outputs):
                keep(path, self._shelf_of(self._store, path))
            entry = Path(self._entry_path(key)).read_text(encoding="utf-8")
            self._store.inside(ENTRIES).write(f"{key}.json", entry.replace(str(self._root), ROOT).encode())
        except UserError as error:
            print(f"store │ this result is not kept there: {error}")

    def _brought_back(self, key: str) -> bool:
        """Whether the store had the outputs, whole; then they are here now."""
        if (store := self._store) is None:
            return False
        try:
            entry = store.inside(ENTRIES).read(f"{key}.json").decode().replace(ROOT, str(self._root))
        except FileNotFoundError:
            return False
        paths = [Path(uri) for uri in _uris(json.loads(entry))]
        if not all(path.exists() or restore(path, self._shelf_of(store, path)) for path in paths):
            return False
        write_text(Path(self._entry_path(key)), entry)
        return True

    def _shelf_of(self, store: Shelf, path: Path) -> Shelf:
        return store.inside(f"{RUNS}/{path.parent.relative_to(self._root).as_posix()}")


def _paths(outputs: dict[str, Any]) -> list[Path]:
    """Where a step's artifacts lie."""
    values = [value for output in outputs.values() for value in (output if isinstance(output, list) else [output])]
    return [Path(value.path) for value in values if isinstance(value, dsl.Artifact)]


def _uris(entry: Any) -> list[str]:
    """Where the artifacts of an entry, as kfp writes it, lie."""
    if isinstance(entry, list):
        return [uri for value in entry for uri in _uris(value)]
    if not isinstance(entry, dict):
        return []
    own = [entry["uri"]] if isinstance(entry.get("uri"), str) else []
    return own + [uri for name, value in entry.items() if name != "metadata" for uri in _uris(value)]


def _is_there(output: Any) -> bool:
    """Whether the folder that an output stands for is still there."""
    if isinstance(output, dsl.Artifact) and Path(output.path).is_dir():
        try:
            shelf_behind(Path(output.path))
        except UserError:
            return False
    return True
