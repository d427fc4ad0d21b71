"""`steerclear review`: a page on this machine where a person confirms or overturns verdicts, and the labels that come of it."""

from __future__ import annotations

import tempfile
import threading
import webbrowser
from pathlib import Path

from steerclear.errors import ConfigError, DataError, Log
from steerclear.records import write_jsonl
from steerclear.review.decisions import decisions_file, read_decisions
from steerclear.review.export import labelled_rows
from steerclear.review.items import read_items
from steerclear.review.server import HOST, listen, new_token, serve
from steerclear.review.session import Review, tally
from steerclear.stats.agreement import agreement


def review(path: Path, log: Log, *, port: int = 0, browser: bool = True) -> None:
    """Serve the page for a file until Ctrl-C, and say what was decided.

    Args:
        path: answers, judged or not, see `read_items`.
        port: 0 takes a free one.
        browser: also open the address in a browser.

    Raises:
        SteerClearError: the file cannot be reviewed, is under review already, or the port cannot be had.
    """
    with Review(path) as opened, listen(port) as listening, tempfile.TemporaryDirectory() as private:
        token = new_token()
        address = f"http://{HOST}:{listening.getsockname()[1]}/{token}/"
        log(f"review: {address}")
        log("Whoever has this address can read the file and decide. Ctrl-C stops; nothing decided is lost.")
        if browser:  # in a thread: a text browser would hold the server up
            page = _redirect(Path(private), address)
            threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        serve(opened, listening, token)
        count = tally(opened.items, opened.decisions)
        log(f"{count.decided} of {count.total} answers are decided: {opened.output}")


def _redirect(private: Path, address: str) -> Path:
    """Return a page that leads to an address: everyone on a host can read a command line, only its owner this folder."""
    page = private / "review.html"
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">', encoding="utf-8")
    return page


def export(path: Path, output: Path, log: Log) -> None:
    """Write what was decided safe or unsafe as labelled rows, and say how far the judges agree.

    Raises:
        ConfigError: the output is the reviewed file or its decisions.
        DataError: nothing is decided yet, or a file is wrong.
        StorageError: the output cannot be written.
    """
    decided = decisions_file(path)
    if output.resolve() in (path.resolve(), decided.resolve()):
        raise ConfigError(f"export: got {output}, which the review itself needs. Name another file.")
    exported = labelled_rows(read_items(path), read_decisions(decided))
    if not exported.rows:
        raise DataError(f"{decided}: nothing is decided safe or unsafe yet. Decide first: steerclear review {path}")
    write_jsonl(output, exported.rows)
    unsafe = [not row.is_safe for row in exported.rows]
    log(f"{len(unsafe)} rows, {sum(unsafe)} unsafe and {len(unsafe) - sum(unsafe)} safe: {output}")
    log("left out: " + ", ".join(f"{count} {word}" for word, count in exported.left_out.items()))
    both = agreement(exported.judged, unsafe, prompts=[row.prompt for row in exported.rows])
    if both.n:
        kappa = "" if both.kappa is None else f", kappa {both.kappa:.2f}"
        interval = "" if both.lower is None else f" [{both.lower:.2f}, {both.upper:.2f}]"
        log(
            f"judges and person agree on {both.both + both.neither} of {both.n}{kappa}{interval}: unsafe for both {both.both}, "
            f"for the judges only {both.only_first}, for the person only {both.only_second}, for neither {both.neither}"
        )
