"""ONNX files: what is written, in which precision, and how each is held to the network that it was made from."""
