"""Faults on purpose: kills, full disks, two users of one folder, damaged files, and files made by strangers.

``python -m tests.faults`` runs all of it and prints one table; ``test_faults.py`` is a fast part for ``make test``.
"""
