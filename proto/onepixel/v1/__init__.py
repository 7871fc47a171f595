"""`onepixel.v1`: the segmentation service that cameras speak to."""
