"""Datasets: image files, their labels, boxes and masks, in the forms that users and publishers have."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_decoders() -> None:
    """Have Pillow and OpenCV write nothing to standard error, where their remarks break a progress bar."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # also of the processes that are started
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
