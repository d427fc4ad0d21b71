"""Tables in LaTeX (booktabs) that no name can break."""

from __future__ import annotations

from collections.abc import Sequence

from steerclear.sanitize import visible

PREAMBLE = (
    "% Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}, and XeLaTeX or LuaLaTeX where names are not Latin.\n"
)

_ESCAPED = {
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
    escaped = "".join(_ESCAPED.get(char, char) for char in visible(text))
    return escaped.replace(r"\textless{}=", r"$\leq$").replace(r"\textgreater{}=", r"$\geq$")


def latex_table(headings: str, rows: Sequence[Sequence[str]], columns: str, caption: str) -> str:
    """Return a table.

    Args:
        headings: the heading lines as LaTeX, without the last line's end.
        rows: cells as plain text.
        columns: LaTeX's letters for the columns.
        caption: as plain text.
    """
    body = "".join(" & ".join(map(latex_text, row)) + " \\\\\n" for row in rows)
    return (
        "\\begin{table}[t]\n\\centering\\small\n"
        f"\\caption{{{latex_text(caption)}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{headings} \\\\\n\\midrule\n{body}\\bottomrule\n"
        "\\end{tabular}\n\\end{table}\n"
    )
