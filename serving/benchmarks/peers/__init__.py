"""Other servers around the very same decoding, engine and bytes.

Each runs in an environment of its own, which holds it, onnxruntime and simplejpeg; what it needs of this package is
copied beside its program.
"""
