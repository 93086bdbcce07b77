"""Evaluation: networks, maps or boxes to numbers that can be compared, by named protocols, with intervals."""
