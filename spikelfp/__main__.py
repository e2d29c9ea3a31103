"""``python -m spikelfp``."""

from spikelfp.cli import main

main()
