"""The ``fam`` command: one file for each command word."""
