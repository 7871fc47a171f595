"""The annotation of a data set: one pixel per class. Its file format, its validation, and the shipped files."""
