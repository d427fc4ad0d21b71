"""Attacks of PyRIT, where it is installed, and what is said where it is not."""

from __future__ import annotations

from importlib import util

import pytest

from steerclear.attacks.cards import load_attack
from steerclear.attacks.options import AttackOptions
from steerclear.attacks.transforms import transform_of
from steerclear.errors import ConfigError

installed = pytest.mark.skipif(
    util.find_spec("pyrit") is None, reason="needs the extra 'pyrit', which is not installed"
)


@pytest.mark.skipif(util.find_spec("pyrit") is not None, reason="PyRIT is installed")
def test_without_pyrit_the_user_is_told_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"need the package pyrit\. Run: pip install 'steerclear\[pyrit\]'"):
        AttackOptions(card="pyrit:AtbashConverter")


@installed
def test_a_converter() -> None:
    assert transform_of("pyrit:AtbashConverter")("Abc xyz") == "Zyx cba"
    card = load_attack("pyrit:AtbashConverter")
    assert (card.name, card.transform) == ("pyrit-AtbashConverter", "pyrit:AtbashConverter")
    assert card.source.startswith("PyRIT ")


@installed
def test_a_template_holds_the_request() -> None:
    assert "how do i bake bread ?" in transform_of("pyrit:aim")("how do i bake bread ?")


@installed
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AtbashConvertr", "template 'AtbashConvertr'"),
        ("NoConverter", "PyRIT has no NoConverter"),
        ("no", "template 'no'"),
    ],
)
def test_what_pyrit_does_not_have(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        transform_of(f"pyrit:{name}")
