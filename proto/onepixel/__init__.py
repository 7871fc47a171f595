"""The wire contracts of onepixel and their generated stubs."""
