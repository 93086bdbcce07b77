"""``fam train``."""
def train() -> None:
    """Train."""
