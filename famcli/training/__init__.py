"""Train a model from image labels: recipe, data, supervision, loop, resume, run folder."""
