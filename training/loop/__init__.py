"""The loop closed for real, as `make loop` runs it: a model that is served improves itself from the frames it sees."""
