"""``python -m steerclear``, for launchers that start modules."""

from steerclear.cli import main

main()
