"""What is sent: street-like JPEGs, and their requests as bytes, so that the generator serialises nothing in a call."""

import numpy as np
from onepixel.v1 import segmentation_pb2 as pb

from serving import wire
from serving.frames import encode_jpeg

SEGMENT = "/onepixel.v1.SegmentationService/Segment"
STREAM_SEGMENT = "/onepixel.v1.SegmentationService/StreamSegment"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
BLOCK = 32
"""Pixels of a side of the areas of one colour."""


def street_like_jpegs(height: int, width: int, count: int) -> tuple[bytes, ...]:
    """Make JPEGs with smooth areas, edges and some noise; of 1024 x 512 pixels they have 120 KB, as a camera's."""
    return tuple(street_like_jpeg(height, width, seed) for seed in range(count))


def segment_request(jpeg: bytes) -> bytes:
    """Return a `SegmentRequest` of a JPEG as bytes."""
    return pb.SegmentRequest(frame=wire.frame_message(jpeg)).SerializeToString()


def street_like_jpeg(height: int, width: int, seed: int) -> bytes:
    """Make one of them."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (-(-height // BLOCK), -(-width // BLOCK), 3))
    areas = np.kron(blocks, np.ones((BLOCK, BLOCK, 1)))[:height, :width]
    return encode_jpeg(np.clip(areas + rng.normal(0, 9, areas.shape), 0, 255).astype(np.uint8), quality=80)
