"""``python -m worker`` is ``pgfleet``."""

from worker.cli import main

main()
