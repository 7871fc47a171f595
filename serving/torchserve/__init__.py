"""The same model behind TorchServe: its archive, its handler, its start, and our client's way to it."""
