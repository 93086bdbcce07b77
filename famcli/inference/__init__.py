"""Run a model on images: predictions, resumable prediction jobs, and the labels a user gives."""
