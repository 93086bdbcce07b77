"""Datasets: image files, their labels, boxes and masks, in the forms that users and publishers have."""
