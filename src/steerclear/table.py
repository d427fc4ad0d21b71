"""One kind of table for Markdown, CSV, LaTeX and the terminal. No name in a cell can break a table or act on its reader."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import rich.table
from rich.text import Text

from steerclear.sanitize import visible

NO_VALUE = "–"
"""What stands in a cell without a value."""


@dataclass(frozen=True)
class Table:
    """Headings and rows. A table without rows is false, and nothing in Markdown."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """A cell is shown as ``str`` tells it, None as `NO_VALUE`."""
    names: int | None = 1
    """How many columns are names; the others are figures, and stand on the right. None: all are names."""
    about: str = ""
    """What it shows, in a sentence of plain text."""
    groups: Sequence[tuple[str, int]] = ()
    """Headings above those of the last columns, each with the number of columns that it spans."""
    bold: Collection[int] = ()
    """Places of the rows that stand out."""

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def left(self) -> int:
        """How many columns stand on the left."""
        return len(self.headings) if self.names is None else self.names

    @property
    def whole_headings(self) -> list[str]:
        """Every column's heading, behind that of its group where it has one."""
        groups = [group for group, count in self.groups for _ in range(count)]
        own = len(self.headings) - len(groups)
        return [*self.headings[:own], *(f"{g}, {h}" for g, h in zip(groups, self.headings[own:], strict=True))]

    @property
    def texts(self) -> list[list[str]]:
        """The rows' cells as text."""
        return [[NO_VALUE if cell is None else str(cell) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        """Return the table in Markdown, below the sentence about it; of a row that stands out the first cell is bold."""
        if not self:
            return ""
        rows = [list(map(markdown_text, row)) for row in self.texts]
        for place in self.bold:
            rows[place][0] = f"**{rows[place][0]}**"
        rule = ["---"] * self.left + ["---:"] * (len(self.headings) - self.left)
        lines = [list(map(markdown_text, self.whole_headings)), rule, *rows]
        about = f"\n{markdown_text(self.about)}\n\n" if self.about else ""
        return about + "".join("| " + " | ".join(line) + " |\n" for line in lines)

    def csv(self) -> str:
        """Return the table as CSV. The cells are not changed, except that what would act in them is made visible."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.whole_headings, *self.rows])
        return visible(text.getvalue())

    def latex(self, caption: str) -> str:
        """Return the table in LaTeX (booktabs).

        Args:
            caption: as plain text.
        """
        columns = "l" * self.left + "r" * (len(self.headings) - self.left)
        headings = " & ".join(map(latex_text, self.headings)) + " \\\\\n"
        body = "".join(" & ".join(map(latex_text, row)) + " \\\\\n" for row in self.texts)
        return (
            "\\begin{table}[t]\n\\centering\\small\n"
            f"\\caption{{{latex_text(caption)}}}\n"
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{self._latex_groups()}{headings}\\midrule\n{body}\\bottomrule\n"
            "\\end{tabular}\n\\end{table}\n"
        )

    def _latex_groups(self) -> str:
        if not self.groups:
            return ""
        at = len(self.headings) - sum(count for _, count in self.groups)
        cells, rules = [""] * at, ""
        for group, count in self.groups:
            cells.append(rf"\multicolumn{{{count}}}{{c}}{{{latex_text(group)}}}")
            rules += rf"\cmidrule(lr){{{at + 1}-{at + count}}}"
            at += count
        return f"{' & '.join(cells)} \\\\\n{rules}\n"

    def rich(self, title: str = "", caption: str = "") -> rich.table.Table:
        """Return the table for the terminal. Names are folded where it is narrow, figures are not."""
        several_lines = any("\n" in cell for row in self.texts for cell in row)
        table = rich.table.Table(
            title=Text(visible(title)) if title else None,
            caption=Text(visible(caption)) if caption else None,
            box=None,
            padding=(0, 1 if several_lines else 2, int(several_lines), 0),
        )
        columns = zip(self.whole_headings, *self.texts, strict=True)
        for place, (heading, *cells) in enumerate(columns):
            if place < self.left:
                table.add_column(Text(visible(heading)), overflow="fold")
            else:
                words = max(map(len, " ".join([heading, *cells]).split()), default=0)
                table.add_column(Text(visible(heading)), justify="right", min_width=words)
        for place, row in enumerate(self.texts):
            table.add_row(*(Text(visible(cell)) for cell in row), style="bold" if place in self.bold else None)
        return table

    def turned(self, heading: str) -> Table:
        """Return the table with its columns as rows.

        Args:
            heading: of the column of names, which were the headings.
        """
        names, *rows = zip(self.headings, *self.rows, strict=True)
        return Table([heading, *names[1:]], rows)

    def without(self, *headings: str) -> Table:
        """Return the table without some of its columns."""
        kept = [place for place, heading in enumerate(self.headings) if heading not in headings]
        return Table(
            [self.headings[i] for i in kept], [[row[i] for i in kept] for row in self.rows], self.names, self.about
        )


_ACTING = re.compile(r"[\\|\[\]`*]|<(?=[A-Za-z/!?])")
"""What begins a link, an element, code or emphasis, or ends a cell."""


def markdown_text(text: str) -> str:
    r"""Return a text that is text in Markdown: it breaks no table, and is no link, picture or element.

    >>> markdown_text("a|b ![x](y) <img>")
    'a\\|b !\\[x\\](y) &lt;img>'
    """
    return _ACTING.sub(lambda found: "&lt;" if found[0] == "<" else "\\" + found[0], visible(text).replace("\n", " "))


LATEX_PREAMBLE = (
    "% Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}, and XeLaTeX or LuaLaTeX where names are not Latin.\n"
)

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "\n": " ", "\t": " ",
    "–": "--", "‹": r"\guilsinglleft{}", "›": r"\guilsinglright{}",
}  # fmt: skip


def latex_text(text: str) -> str:
    r"""Return a text in which no character is a command.

    >>> latex_text("50 % of a_b & {c}")
    '50 \\% of a\\_b \\& \\{c\\}'
    """
    escaped = "".join(_LATEX.get(char, char) for char in visible(text))
    return escaped.replace(r"\textless{}=", r"$\leq$").replace(r"\textgreater{}=", r"$\geq$")
