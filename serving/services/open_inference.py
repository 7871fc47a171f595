"""The Open Inference Protocol, `inference.GRPCInferenceService`: converts, asks, and converts back.

So that the clients of Triton, KServe and MLServer work unchanged. `tensors` has the conversions.
"""

import time
from contextlib import ExitStack
from importlib.metadata import version

import grpc
from onepixel.oip import open_inference_pb2 as pb
from onepixel.oip import open_inference_pb2_grpc as pb_grpc

from serving.repository import UnknownModel
from serving.services import tensors
from serving.services.answers import Answerer
from serving.services.calls import Calls
from serving.services.statuses import answers_errors
from serving.settings import Limits

SERVICE = "inference.GRPCInferenceService"


class OpenInference(pb_grpc.GRPCInferenceServiceServicer):
    """The service.

    Parameters
    ----------
    answerer
        What answers.
    limits
        How many pixels one request's frames may have together, and how many they may be.
    accepted
        Where the calls that hold frames are counted.
    """

    def __init__(self, answerer: Answerer, limits: Limits, accepted: Calls) -> None:
        self._answerer = answerer
        self._repository = answerer.repository
        self._limits = limits
        self._accepted = accepted

    def ServerLive(self, request: pb.ServerLiveRequest, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        """Say that the process answers."""
        return pb.ServerLiveResponse(live=True)

    @answers_errors
    def ServerReady(self, request: pb.ServerReadyRequest, context: grpc.ServicerContext) -> pb.ServerReadyResponse:
        """Say whether frames are taken: not while draining."""
        return pb.ServerReadyResponse(ready=not self._accepted.closed)

    @answers_errors
    def ModelReady(self, request: pb.ModelReadyRequest, context: grpc.ServicerContext) -> pb.ModelReadyResponse:
        """Say whether a model answers; one that is unknown does not, as in Triton."""
        try:
            self._repository.find(request.name, request.version)
        except UnknownModel:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._accepted.closed)

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
        model = self._repository.find(request.name, request.version)
        versions = [other.version for other in self._repository.models() if other.name == model.name]
        return tensors.metadata_message(model, versions)

    @answers_errors
    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        """Segment frames, all or none; a request that cannot be read counts as one frame."""
        answerer, deadline = self._answerer, time.monotonic() + context.time_remaining()
        caller = answerer.caller(context)
        with ExitStack() as held:
            first = held.enter_context(answerer.counted(caller))
            self._accepted.enter(context, lambda: None, caller.client)
            model = first.model = self._repository.find(request.model_name, request.model_version)
            outputs = tensors.requested_outputs(request)
            limits = self._limits
            frames = tensors.request_frames(request, max_pixels=limits.max_pixels, max_frames=limits.places)
            for _ in frames[1:]:
                held.enter_context(answerer.counted(caller)).model = model
            held.enter_context(answerer.queue.enter(caller.client, frames=len(frames), deadline=deadline))
            started = []
            for frame in frames:
                work = answerer.start(model, frame, caller, deadline, at_once=len(frames) == 1)
                held.callback(work.future.cancel)  # where another frame fails, nobody waits for this one
                if not context.add_callback(work.future.cancel):
                    work.future.cancel()
                started.append(work)
            answers = []
            for work in started:
                inference = answerer.wait(work)
                answers.append(tensors.Answer(inference.class_ids, inference.confidence, work.height, work.width))
            return tensors.response_message(request, outputs, model, answers)
