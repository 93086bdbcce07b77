"""The metrics, over arrays: boxes, masks, and COCO average precision."""
