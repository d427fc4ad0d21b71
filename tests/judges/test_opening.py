"""Which judges there are: what can be named can be opened."""

from __future__ import annotations

import pytest

from steerclear.errors import ConfigError
from steerclear.judges.opening import OPENERS, harm_judge
from steerclear.judges.options import KINDS, JudgeOptions


def test_every_kind_that_can_be_named_has_its_opener() -> None:
    assert set(OPENERS) == set(KINDS)


def test_no_kind_is_an_error_that_names_them_all() -> None:
    with pytest.raises(ConfigError, match="judge: none is named") as refused:
        harm_judge(JudgeOptions(), lambda _: None)
    assert all(f"--{kind}" in str(refused.value) for kind in KINDS)
