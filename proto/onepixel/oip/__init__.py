"""The Open Inference Protocol. Only a server imports it: its names collide with those of tritonclient."""
