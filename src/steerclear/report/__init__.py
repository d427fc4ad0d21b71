"""Scores to one page: tables, charts, answers, cards. `steerclear.report` is also the function that writes it."""

import sys

from steerclear import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
