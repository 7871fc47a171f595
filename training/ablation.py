"""The paper's tables, and the presets, on any data set: what each part of the method is worth to the pseudo labels.

A row is a preset and a few settings that differ from it. Its pseudo labels are scored on the training split, for the
configured pixel file and for others that a person chose elsewhere, so that no figure hangs on one choice of pixels.
Features are made once for all rows that share them.
"""
