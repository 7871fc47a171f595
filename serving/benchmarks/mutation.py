"""Valid messages and images, and what can go wrong with them on the way: the fuzzer's corpus and its mutations."""

import io
import random
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from onepixel.oip import open_inference_pb2 as oip
from onepixel.v1 import segmentation_pb2 as pb
from PIL import Image

from serving.benchmarks.workload import street_like_jpegs
from serving.frames import decode_image

Value = TypeVar("Value")

SIZE = (96, 128)
"""Height and width of the corpus' frames, pixels."""
NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
"""At which things break."""


class Corpus:
    """Mutated messages without end; the same seed gives the same ones.

    Parameters
    ----------
    seed
        Of the random numbers.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._images = _images()
        self._mutations: tuple[Callable[[bytes], bytes], ...] = (
            self._flip_bits,
            self._set_bytes,
            self._cut,
            self._remove,
            self._repeat,
            self._insert,
            self._splice,
        )

    def request(self) -> bytes:
        """Return a `SegmentRequest` of which the image, the fields or the bytes are broken."""
        message = pb.SegmentRequest()
        self._fill(message.frame)
        self._fill_options(message.options)
        return self._break_bytes(message.SerializeToString())

    def infer_request(self) -> bytes:
        """Return a `ModelInferRequest` of the Open Inference Protocol, likewise broken."""
        message = oip.ModelInferRequest(model_version=self._often("", "1", "7", "newest"))
        tensor = message.inputs.add(name="images", datatype="BYTES", shape=[self._often(1, *NUMBERS)])
        image = self._random.choice(self._images)
        data = self._mutate(image) if self._random.random() < 0.5 else image
        data = self._often(len(data), *NUMBERS).to_bytes(4, "little") + data
        if self._random.random() < 0.5:
            tensor.name, tensor.datatype = "frames", "UINT8"
            tensor.shape[:] = [1, *SIZE, 3]
            data = bytes(SIZE[0] * SIZE[1] * self._often(3, 1, 0, 6))
        if self._random.random() < 0.3:
            place = self._random.randrange(len(tensor.shape))
            tensor.shape[place] = self._random.choice((-1, *NUMBERS))
        tensor.name = self._often(tensor.name, "", "masks", "x" * 5000)
        tensor.datatype = self._often(tensor.datatype, "FP32", "", "UINT8")
        if self._random.random() < 0.2:
            message.outputs.add(name=self._often("class_ids", "confidence", "", "logits"))
        message.raw_input_contents.extend([data] * self._often(1, 0, 2))
        return self._break_bytes(message.SerializeToString())

    def stream(self) -> list[bytes]:
        """Return the messages of a stream, likewise broken; now and then the config is missing or comes twice."""
        configs = self._random.choice((0, 1, 1, 1, 1, 2))
        messages = [pb.StreamSegmentRequest(config=self._config()) for _ in range(configs)]
        for sequence in range(self._random.randint(1, 4)):
            message = pb.StreamSegmentRequest()
            message.frame.sequence = sequence
            self._fill(message.frame)
            messages.append(message)
        return [self._break_bytes(message.SerializeToString()) for message in messages]

    def _config(self) -> pb.StreamConfig:
        config = pb.StreamConfig(max_in_flight=self._random.choice((0, 1, 2, 4, self._random.choice(NUMBERS))))
        config.overflow_policy = self._enum(0, 1, 2, 3)
        self._fill_options(config.options)
        return config

    def _fill(self, frame: pb.Frame) -> None:
        image = self._random.choice(self._images)
        if self._random.random() < 0.7:
            frame.encoded.data = self._mutate(image) if self._random.random() < 0.7 else image
            frame.encoded.format = self._enum(0, 0, 0, 0, 1, 2, 3)
            return
        raw = frame.raw
        raw.height, raw.width = SIZE
        raw.format = self._enum(1, 2, 3, 4)
        pixel = {3: 1.5, 4: 1}.get(raw.format, 3)
        raw.data = bytes(int(SIZE[0] * SIZE[1] * self._random.choice((pixel, pixel, pixel, 1, 3))))
        for name in ("height", "width", "stride"):
            if self._random.random() < 0.2:
                setattr(raw, name, self._random.choice(NUMBERS))

    def _fill_options(self, options: pb.SegmentOptions) -> None:
        options.mask_encoding = self._enum(0, 1, 2, 3)
        options.want_confidence = self._random.random() < 0.3
        options.want_histogram = self._random.random() < 0.3
        if self._random.random() < 0.2:
            options.max_age.seconds = self._random.choice((-(2**63), -1, 0, 1, 2**63 - 1))
            options.max_age.nanos = self._random.choice((-(2**31), -1, 0, 1, 2**31 - 1))

    def _often(self, usual: Value, *rare: Value) -> Value:
        return self._random.choice(rare) if self._random.random() < 0.15 else usual

    def _enum(self, *numbers: int) -> Any:
        """Return one of an enum's numbers, and now and then one that it has not."""
        return 99 if self._random.random() < 0.05 else self._random.choice(numbers)

    def _break_bytes(self, data: bytes) -> bytes:
        return self._mutate(data) if self._random.random() < 0.3 else data

    def _mutate(self, data: bytes) -> bytes:
        for _ in range(self._random.choice((1, 1, 1, 2, 4))):
            data = self._random.choice(self._mutations)(data)
        return data

    def _place(self, data: bytes) -> int:
        # Headers are short and decide much: half of the mutations are near the start.
        end = len(data) if self._random.random() < 0.5 else min(len(data), 64)
        return self._random.randrange(end + 1)

    def _flip_bits(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 2, 8))):
            if changed:
                changed[min(self._place(data), len(changed) - 1)] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _set_bytes(self, data: bytes) -> bytes:
        place = self._place(data)
        number = self._random.choice(NUMBERS).to_bytes(4, self._random.choice(("little", "big")))
        return data[:place] + number[: self._random.randint(1, 4)] + data[place + 4 :]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._place(data)]

    def _remove(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + data[place + self._random.randint(1, 64) :]

    def _repeat(self, data: bytes) -> bytes:
        place = self._place(data)
        piece = data[place : place + self._random.randint(1, 64)]
        return data[:place] + piece * self._random.choice((2, 3, 50)) + data[place:]

    def _insert(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + self._random.randbytes(self._random.randint(1, 16)) + data[place:]

    def _splice(self, data: bytes) -> bytes:
        other = self._random.choice(self._images)
        return data[: self._place(data)] + other[self._place(other) :]


def _images() -> list[bytes]:
    """Return a small image in each format and mode that the server reads."""
    (jpeg,) = street_like_jpegs(*SIZE, 1)
    pixels = Image.fromarray(np.asarray(decode_image(jpeg)))
    images = [jpeg]
    for kind, mode, options in (
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "I;16", {}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
    ):
        stream = io.BytesIO()
        (pixels.convert("I") if mode == "I;16" else pixels).convert(mode).save(stream, kind, **options)
        images.append(stream.getvalue())
    return images
