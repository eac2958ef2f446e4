"""kfp's cache of steps' results, which knows an artifact by its content, and shares it by a store."""

import json
import re
from collections.abc import Callable
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
            entry = json.loads(Path(self._entry_path(key)).read_text(encoding="utf-8"))
            # The folder of runs lies elsewhere on each machine.
            told = _placed(entry, lambda uri: Path(uri).relative_to(self._root).as_posix())
            self._store.inside(ENTRIES).write(f"{key}.json", json.dumps(told).encode())
        except UserError as error:
            print(f"store │ this result is not kept there: {error}")

    def _brought_back(self, key: str) -> bool:
        """Whether the store had the outputs, whole; then they are here now."""
        if (store := self._store) is None:
            return False
        paths: list[Path] = []

        def here(place: str) -> str:
            paths.append(self._root / place)
            return str(paths[-1])

        try:
            entry = _placed(json.loads(store.inside(ENTRIES).read(f"{key}.json")), here)
            if not all(path.exists() or restore(path, self._shelf_of(store, path)) for path in paths):
                return False
        except FileNotFoundError:
            return False
        except UserError as error:
            print(f"store │ this result is made anew: {error}")
            return False
        write_text(Path(self._entry_path(key)), json.dumps(entry))
        return True

    def _shelf_of(self, store: Shelf, path: Path) -> Shelf:
        return store.inside(f"{RUNS}/{path.parent.relative_to(self._root).as_posix()}")


def _paths(outputs: dict[str, Any]) -> list[Path]:
    """Where a step's artifacts lie."""
    values = [value for output in outputs.values() for value in (output if isinstance(output, list) else [output])]
    return [Path(value.path) for value in values if isinstance(value, dsl.Artifact)]


def _placed(entry: Any, place: Callable[[str], str]) -> Any:
    """An entry as kfp writes it, in which each artifact lies where `place` says."""
    if isinstance(entry, list):
        return [_placed(value, place) for value in entry]
    if not isinstance(entry, dict):
        return entry
    if "uri" in entry:
        return {**entry, "uri": place(entry["uri"])}
    return {name: _placed(value, place) for name, value in entry.items()}


def _is_there(output: Any) -> bool:
    """Whether the folder that an output stands for is still there."""
    if isinstance(output, dsl.Artifact) and Path(output.path).is_dir():
        try:
            shelf_behind(Path(output.path))
        except UserError:
            return False
    return True
