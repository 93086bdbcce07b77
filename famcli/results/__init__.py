"""The result card of an evaluation: its values, its file, and its page."""
