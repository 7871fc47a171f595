"""What the server costs beside the engine, measured; each module is a command."""
