"""Several extractions that fill one table side by side, each its own parts, and how they are found to be done."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from potstill.errors import UserError
from potstill.learn.signals import MANIFEST, Content, complete, is_written, manifest_of, part_names
from potstill.store import Shelf


@dataclass(frozen=True)
class Shard:
    """One of several extractions, or the only one.

    Attributes:
        number: which of them, from 0.
        of: how many there are.
    """

    number: int = 0
    of: int = 1

    @classmethod
    def named(cls, name: str) -> "Shard":
        """The one of that name; without a name the only one."""
        number, _, of = name.partition("-of-")
        return cls(int(number) - 1, int(of)) if name else cls()

    @property
    def name(self) -> str:
        """As people count, such as `1-of-4`; empty for the only one."""
        return f"{self.number + 1}-of-{self.of}" if self.of > 1 else ""

    @property
    def told_by(self) -> str:
        """The file in the table that tells what it wrote: a receipt of its own; of the only one the manifest."""
        return f"_shard-{self.name}.json" if self.of > 1 else MANIFEST

    def own(self, parts: int) -> range:
        """Numbers of those of a table's parts that are its own."""
        return range(self.number, parts, self.of)


def vouch(table: Shelf, shard: Shard, parts: int) -> None:
    """Write the receipt of a shard whose parts are all written."""
    table.write(shard.told_by, json.dumps(part_names(table, shard.own(parts)), indent=1).encode())


def see_whole(table: Shelf, content: Content, parts: int, shards: int) -> None:
    """See that a table has its manifest, which the last of its shards will have written, and all parts that it names.

    Otherwise each part is looked at. A shard that lacks some loses its receipt, so that no cache takes it for done.

    Raises:
        UserError: which shards lack parts, or hold one that isn't what it was.
    """
    names = set(table.names())
    # A bucket's rule ends what is older first: a manifest, written last, outlives its parts.
    if MANIFEST in names and manifest_of(table).named <= names:
        return
    lacking = [*_lacking(table, content, parts, shards)]
    for shard, _ in lacking:
        table.remove(shard.told_by)
    if lacking:
        words = ", ".join(f"shard {shard.name} {words}" for shard, words in lacking)
        raise UserError(
            f"{table}: {words}; run again: what is missing is extracted anew (on a cluster: submit --no-cache)"
        )
    complete(table, content, parts)


def _lacking(table: Shelf, content: Content, parts: int, shards: int) -> Iterator[tuple[Shard, str]]:
    """Shards that aren't whole, and what each lacks."""
    for shard in (Shard(number, shards) for number in range(shards)):
        own = shard.own(parts)
        if lost := [number for number in own if not is_written(table, content, number)]:
            yield shard, f"lacks {len(lost):,} of {len(own):,} parts (part {lost[0]})"
