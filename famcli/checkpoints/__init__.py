"""Check and convert checkpoints: verification, reference outputs, export, and a check of the installation."""
