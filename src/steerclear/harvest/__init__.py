"""Harvest: toxic prompts, sampled answers of one's own model, verdicts, and the rows chosen from them."""

import sys

from steerclear import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
