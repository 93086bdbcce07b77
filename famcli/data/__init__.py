"""From files to network input."""
