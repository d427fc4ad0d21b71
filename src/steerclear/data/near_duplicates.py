"""Texts that say nearly the same: MinHash (Broder 1997) with LSH finds candidates, the exact similarity decides.

The similarity of two texts is the Jaccard index of their shingles: those that both have over those that either has. Shingles
are the runs of `SHINGLE` characters of the normalised text: short prompts have enough of them, in every language.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from steerclear.errors import ConfigError
from steerclear.records import sha256_of

SHINGLE = 4
"""Characters in a shingle."""

_PERMUTATIONS = 128
_WEIGHTS = (0.02, 0.98)
"""What a false candidate and a missed pair cost when LSH's bands are laid out. A false candidate costs a comparison only."""

_HIGHEST = 0.9
"""LSH is laid out for no more than this: above, its bands become too few."""

_SEPARATORS = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """Return the text's words in lower case with single spaces; case, white space and punctuation make no difference.

    >>> normalise("How  do I open\\n a TIN?!")
    'how do i open a tin'
    """
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip() or text.strip()


def shingles(text: str) -> set[str]:
    """Return the runs of `SHINGLE` characters of the normalised text; of a shorter text all of it.

    >>> sorted(shingles("A tin!"))
    [' tin', 'a ti']
    """
    words = normalise(text)
    return {words[i : i + SHINGLE] for i in range(max(1, len(words) - SHINGLE + 1))}


def similarity_of(first: str, second: str) -> float:
    """Return the Jaccard index of two texts' shingles, from 0 to 1."""
    return _jaccard(shingles(first), shingles(second))


@dataclass(frozen=True)
class Near:
    """A text that was added before and is near."""

    key: str
    similarity: float


class NearDuplicates:
    """Texts, and which of them are near another one.

    Nothing below ``similarity`` is ever returned, and the same texts give the same results on every machine. Texts that are equal
    after `normalise` are always found; a pair just above the limit is missed by LSH in about one case of a hundred.

    Args:
        similarity: the Jaccard index from which on texts are near, above 0 and at most 1.

    Raises:
        ConfigError: the similarity is out of range.
    """

    def __init__(self, similarity: float) -> None:
        if not 0 < similarity <= 1:
            raise ConfigError(f"similarity: got {similarity}, allowed: above 0 and at most 1.")
        # Imports numpy, which the command line's help does without.
        from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

        self.similarity = similarity
        self._empty = MinHash(num_perm=_PERMUTATIONS, hashfunc=zlib.crc32, scheme="affine32")
        self._index = MinHashLSH(threshold=min(similarity, _HIGHEST), num_perm=_PERMUTATIONS, weights=_WEIGHTS)
        self._added: list[tuple[str, str]] = []

    def add(self, key: str, text: str) -> None:
        """Remember a text under a key."""
        self._index.insert(len(self._added), self._signature(shingles(text)), check_duplication=False)
        self._added.append((key, text))

    def find(self, text: str) -> str | None:
        """Return the key of the text that is nearest to this one, None if none is near."""
        near = self.find_all(text)
        return near[0].key if near else None

    def find_all(self, text: str) -> list[Near]:
        """Return the texts that are near, the nearest first, those as near in the order in which they were added."""
        own = shingles(text)
        found = []
        for place in sorted(self._index.query(self._signature(own))):
            key, other = self._added[place]
            similarity = _jaccard(own, shingles(other))
            if similarity >= self.similarity:
                found.append(Near(key, similarity))
        return sorted(found, key=lambda near: -near.similarity)

    def _signature(self, own: set[str]) -> object:
        signature = self._empty.copy()
        signature.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in own])
        return signature


def group_near(texts: Iterable[str], similarity: float) -> dict[str, str]:
    """Return the name of each text's group. Texts are in one group if they are near, directly or through others of the texts.

    A group's name is a hash of its texts' first in alphabetical order, so it does not depend on the order of the texts.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = {text: normalise(text) for text in texts}
    names = sorted(set(own.values()))
    index = NearDuplicates(similarity)
    links: list[tuple[int, int]] = []
    for place, name in enumerate(names):
        links += [(place, int(near.key)) for near in index.find_all(name)]
        index.add(str(place), name)
    rows, columns = [a for a, _ in links], [b for _, b in links]
    graph = coo_array(([1] * len(links), (rows, columns)), shape=(len(names), len(names)))
    _, parts = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    group = {name: first.setdefault(int(part), sha256_of(name)) for name, part in zip(names, parts, strict=True)}
    return {text: group[name] for text, name in own.items()}


def _jaccard(first: set[str], second: set[str]) -> float:
    both = len(first & second)
    return both / (len(first) + len(second) - both)
