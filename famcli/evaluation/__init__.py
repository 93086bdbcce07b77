"""From networks, maps or boxes to numbers that can be compared: protocols, outcomes, intervals, results."""
