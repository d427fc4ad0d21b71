"""One cell: what changed is set aside, not lost."""

from pathlib import Path

from steerclear.experiments.cell import set_aside


def test_a_folder_is_set_aside_again_and_again(tmp_path: Path) -> None:
    folder, aside = tmp_path / "attacks" / "sure", tmp_path / "earlier" / "1a2b"
    set_aside(folder, aside)  # nothing there yet
    assert not aside.parent.exists()
    for text in ("first", "second"):
        folder.mkdir(parents=True)
        (folder / "answers.jsonl").write_text(text)
        set_aside(folder, aside)
        assert not folder.exists()
        assert (aside / "answers.jsonl").read_text() == text
