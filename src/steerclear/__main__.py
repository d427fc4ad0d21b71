"""``python -m steerclear``, and so ``accelerate launch -m steerclear``."""

from steerclear.cli import main

main()
