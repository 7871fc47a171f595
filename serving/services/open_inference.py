"""The Open Inference Protocol, `inference.GRPCInferenceService`: converts, asks, and converts back.

So that the clients of Triton, KServe and MLServer work unchanged. `tensors` has the conversions.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Protocol

import grpc
from onepixel.oip import open_inference_pb2 as pb
from onepixel.oip import open_inference_pb2_grpc as pb_grpc

from serving.model import Model
from serving.services import tensors
from serving.services.answers import UnknownModel, answers_errors

SERVICE = "inference.GRPCInferenceService"


class Frontend(Protocol):
    """What the service asks."""

    def model(self, name: str, version: str) -> Model:
        """Find a served model; an empty name means the default one, an empty version the newest.

        Raises
        ------
        UnknownModel
            If it is not served.
        """
        ...

    def models(self) -> Sequence[Model]:
        """Return the models that answer now: none while loading or draining."""
        ...

    def segment(
        self, model: Model, frames: Sequence[tensors.Frame], context: grpc.ServicerContext
    ) -> Sequence[tensors.Answer]:
        """Decode and segment frames, all or none, before the call's deadline."""
        ...


class OpenInference(pb_grpc.GRPCInferenceServiceServicer):
    """The service.

    Parameters
    ----------
    frontend
        What answers.
    max_pixels
        Limit of the pixels of one request's frames together.
    max_frames
        Limit of their number.
    """

    def __init__(self, frontend: Frontend, *, max_pixels: int, max_frames: int) -> None:
        self._frontend = frontend
        self._max_pixels = max_pixels
        self._max_frames = max_frames

    def ServerLive(self, request: pb.ServerLiveRequest, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        """Say that the process answers."""
        return pb.ServerLiveResponse(live=True)

    @answers_errors
    def ServerReady(self, request: pb.ServerReadyRequest, context: grpc.ServicerContext) -> pb.ServerReadyResponse:
        """Say whether a model answers."""
        return pb.ServerReadyResponse(ready=bool(self._frontend.models()))

    @answers_errors
    def ModelReady(self, request: pb.ModelReadyRequest, context: grpc.ServicerContext) -> pb.ModelReadyResponse:
        """Say whether a model answers; one that is unknown does not, as in Triton."""
        try:
            model = self._frontend.model(request.name, request.version)
        except UnknownModel:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=model in self._frontend.models())

    @answers_errors
    def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ServerMetadataResponse:
        """Describe the server."""
        return pb.ServerMetadataResponse(name="onepixel", version=version("onepixel"))

    @answers_errors
    def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        """Describe a model's tensors."""
        model = self._frontend.model(request.name, request.version)
        versions = [other.version for other in self._frontend.models() if other.name == model.name]
        return tensors.metadata_message(model, versions)

    @answers_errors
    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        """Segment frames."""
        model = self._frontend.model(request.model_name, request.model_version)
        outputs = tensors.requested_outputs(request)
        frames = tensors.request_frames(request, max_pixels=self._max_pixels, max_frames=self._max_frames)
        answers = self._frontend.segment(model, frames, context)
        return tensors.response_message(request, outputs, model, answers)
