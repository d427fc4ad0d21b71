"""The one door from data files to the rows of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from steerclear.config import identity_tree
from steerclear.data.contamination import check_contamination
from steerclear.data.formats import LEFT_OUT
from steerclear.data.manifest import build_manifest
from steerclear.data.mixing import nested_subset, split_heldout
from steerclear.data.options import DataOptions
from steerclear.data.sources import Problem, SourceRead, read_source
from steerclear.data.templates import render_row
from steerclear.errors import ConfigError, DataError
from steerclear.records import Prompt, Row, text_key


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """The rows of a run, as they were read and as the model sees them."""

    benign: list[Row]
    """Rows to imitate."""
    added: list[Row]
    """More rows to imitate, with no part in ``benign_count``."""
    unsafe: list[Row]
    """Rows to avoid. Empty without an unsafe source."""
    heldout: list[Row]
    """Benign rows kept out of training."""
    rendered: dict[str, list[Row]]
    """``benign``, ``added``, ``unsafe`` and ``heldout`` again, by the template: see `steerclear.data.templates.render_row`."""
    manifest: dict[str, Any]
    """See `steerclear.data.manifest.build_manifest`."""
    messages: list[str]
    """What to tell the user: warnings, and for each source how many rows were left out and why."""
    problems: list[Problem]
    """Every faulty row that was left out."""

    def beginning(self, count: int, *, heldout: int) -> PreparedData:
        """Return the first rows of each part, to try a training on."""
        counts = dict.fromkeys(self.rendered, count) | {"heldout": heldout}
        parts = {part: getattr(self, part)[:most] for part, most in counts.items()}
        rendered = {part: self.rendered[part][:most] for part, most in counts.items()}
        return replace(self, **parts, rendered=rendered)


def prepare_data(options: DataOptions, evaluation_prompts: Iterable[Prompt] = ()) -> PreparedData:
    """Read, filter, check and choose the rows of a run.

    Rows that hold an evaluation prompt are looked for among all rows read, before any are chosen, so neither the outcome
    nor the size of a subset depends on the seed.

    Raises:
        DataError: a source cannot be read or has no usable row, there are too few rows, a row has the wrong form for the
            template, ``safe_sides`` without pairs, two rows have the same id or are to be both imitated and avoided, or a row
            holds an evaluation prompt.
    """
    if not _sources(options.benign):
        raise ConfigError("data.benign: got nothing, expected a file or a Hub name of rows to imitate.")
    prompts = list(evaluation_prompts)
    benign_reads = _read_all(options.benign, "benign", options.benign_where)
    added_reads = _read_all(options.extra, "benign", {})
    unsafe_reads = _read_all(options.unsafe, "unsafe", options.unsafe_where)
    reads = benign_reads + added_reads + unsafe_reads
    benign, added, unsafe = _rows_of(benign_reads), _rows_of(added_reads), _rows_of(unsafe_reads)
    _check_identity(benign + added, unsafe)
    matches = check_contamination(
        benign + added + unsafe,
        prompts,
        on_contamination=options.on_contamination,
        similarity=options.contamination_similarity,
    )
    dropped = {match.row.id for match in matches}
    benign = [row for row in benign if row.id not in dropped]
    added = [row for row in added if row.id not in dropped]
    unsafe = [row for row in unsafe if row.id not in dropped]
    with _named("heldout_count"):
        pool, heldout = split_heldout(benign, options.heldout_count, options.seed)
    with _named("benign_count", f" Held out are {len(heldout)} more (data.heldout_count)."):
        benign = nested_subset(pool, _count(options.benign_count, pool), options.seed)
    with _named("unsafe_count"):
        unsafe = nested_subset(unsafe, _count(options.unsafe_count, unsafe), options.seed)
    with _named("extra_count"):
        added = added if options.extra_count is None else nested_subset(added, options.extra_count, options.seed)
    if options.safe_sides:
        side_reads = _read_all(options.unsafe, "benign", options.unsafe_where)
        reads += side_reads
        known = {text_key(row) for row in (*benign, *heldout, *added)}
        sides = [row for row in _safe_sides(side_reads, unsafe) if text_key(row) not in known]
        _check_identity(sides, unsafe)
        added += sides
    parts = {"benign": benign, "added": added, "unsafe": unsafe, "heldout": heldout}
    return PreparedData(
        **parts,
        rendered={part: [render_row(row, options.template) for row in rows] for part, rows in parts.items()},
        manifest=build_manifest(
            reads,
            parts,
            selection=_selection(options),
            evaluation_prompts=len(prompts),
            contaminated=len(matches),
        ),
        messages=_messages(reads, len(matches)),
        problems=[problem for read in reads for problem in read.problems],
    )


def _sources(source: str | Sequence[str] | None) -> list[str]:
    if source is None:
        return []
    return [s for s in ([source] if isinstance(source, str) else source) if s.strip()]


def _read_all(source: str | list[str] | None, role: str, where: dict[str, Any]) -> list[SourceRead]:
    seen: dict[tuple[str, str], str] = {}
    reads = [read_source(one, role, where=where, seen=seen) for one in _sources(source)]
    for read in reads:
        if not read.rows:
            first = f" First: {read.problems[0].message}" if read.problems else ""
            raise DataError(
                f"{read.name}: none of its {read.counts['read']} rows can be used as {role} rows: {_why(read)}.{first} "
                "Check that the file is the right one for this role, and where."
            )
    return reads


def _safe_sides(reads: list[SourceRead], unsafe: list[Row]) -> list[Row]:
    """Return the other sides of pairs, as far as they are usable; their prompts are those of the unsafe rows."""
    other = next((read for read in reads if read.format != "pairs"), None)
    if other is not None:
        raise DataError(
            f"data.safe_sides: {other.name} has rows of the format {other.format}, which have one side only."
        )
    sides = {row.id.removesuffix("-safe"): row for row in _rows_of(reads)}
    stems = [row.id.removesuffix("-unsafe") for row in unsafe]
    return [sides[stem] for stem in stems if stem in sides]


def _rows_of(reads: list[SourceRead]) -> list[Row]:
    return [row for read in reads for row in read.rows]


def _check_identity(benign: list[Row], unsafe: list[Row]) -> None:
    places: dict[str, str] = {}
    for row in benign + unsafe:
        if row.id in places:
            raise DataError(
                f"{places[row.id]} and {row.source} have the same id {row.id!r}. "
                "Give each row an id of its own, or rename one of two files of the same name."
            )
        places[row.id] = row.source
    imitated = {text_key(row): row.source for row in benign}
    for row in unsafe:
        if text_key(row) in imitated:
            raise DataError(
                f"{imitated[text_key(row)]} and {row.source} are the same prompt and completion, once to imitate and once to "
                "avoid. Remove one of the two."
            )


@contextmanager
def _named(option: str, note: str = "") -> Iterator[None]:
    """Name the option that is to blame for a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"data.{option}: {error}{note}") from error


def _count(count: int | None, rows: list[Row]) -> int:
    return len(rows) if count is None else count


def _selection(options: DataOptions) -> dict[str, Any]:
    sources = ("benign", "added", "unsafe", "benign_where", "unsafe_where")  # told by name in the list of sources
    return {name: value for name, value in identity_tree(options).items() if name not in sources}


def _messages(reads: list[SourceRead], contaminated: int) -> list[str]:
    messages = [warning for read in reads for warning in read.warnings]
    for read in reads:
        if read.problems:
            messages.append(
                f"{read.name}: {len(read.problems)} of {read.counts['read']} rows are faulty and left out as {read.role} rows "
                f"({_why(read)}). First: {read.problems[0].message}"
            )
    if contaminated:
        messages.append(f"{contaminated} training rows hold an evaluation prompt and are left out.")
    return messages


def _why(read: SourceRead) -> str:
    return ", ".join(f"{read.counts[kind]} {kind.replace('_', ' ')}" for kind in LEFT_OUT if read.counts[kind])
