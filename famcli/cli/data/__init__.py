"""Commands on datasets: ``fam data ...``."""
