"""Write predictions: one file a format, and one table of formats."""
