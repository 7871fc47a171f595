"""The gRPC server: models, their queue, the services, and what watches over them.

Synchronous grpcio: asyncio with an executor costs more processor time a frame, and its event loop would be one more
thread between a frame and its thread (`onepixel bench serving --peer grpc --peer grpc-aio` measures both beside ours).
Binds to loopback unless told otherwise, in the clear.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from onepixel.oip import open_inference_pb2_grpc as oip_grpc

from serving.addresses import is_loopback, split_address
from serving.batching import InferenceQueue
from serving.errors import InputError
from serving.metrics import Metrics
from serving.model import Model
from serving.observers import Observer
from serving.operations import OperationsServer
from serving.repository import Repository
from serving.security import Clients, TokenInterceptor, Tokens, server_credentials
from serving.services.answers import Answerer
from serving.services.calls import Calls
from serving.services.health import Health
from serving.services.malformed import MalformedInterceptor
from serving.services.open_inference import SERVICE as OPEN_INFERENCE
from serving.services.open_inference import OpenInference
from serving.services.reflection import Reflection
from serving.services.segmentation import MAX_OPENING, SERVICE, SegmentationService
from serving.settings import ServerSettings
from serving.tracing import Tracer

logger = logging.getLogger(__name__)

SPARE_THREADS = 8
"""For calls that hold nothing and end soon: refusals, health checks and descriptions."""
MAX_IDLE_CALLS = 16
"""Health watches and reflection calls at the same time; each holds a thread for as long as its caller likes."""
CALLS_PER_THREAD = 4
"""Calls at once, by the threads: a burst waits for a thread, what is more is refused before it is read."""
CALLS_PER_CONNECTION = 64
"""Calls at once on one connection, which so leaves threads to others."""
MAX_UNREAD = 64
"""Answers at once that their callers have not read."""
KEEPALIVE_SECONDS = (20.0, 10.0)
"""A connection with a call on it is pinged so often, and closed if the answer takes so long: a camera that vanished
without a word gives back its stream within their sum."""
WATCH_SECONDS = 0.5
"""How often the engine is looked at for a hang."""
HOLD_SECONDS, LAST_SECONDS = 0.1, 0.5
"""At the end of `stop`: refusals are held so long, until gRPC begins to shut down, and then have so long to leave."""


Hook = Callable[[Mapping[str, str], bytes], bool]
"""Takes the headers and the body of a webhook; returns whether it is believed."""
EMBEDDED = ServerSettings(address="127.0.0.1:0", metrics_address="")
"""For a server inside another program: a free port on loopback, and no metrics over HTTP."""


class Server:
    """A server of one or several models; `start` and `stop` it from any thread.

    Parameters
    ----------
    models
        Loaded models, so warm; one, or those of a repository, which may change.
    settings
        All that it is told; `model`, `name`, `repository`, `shadow` and `collect` are its maker's business.
    hook
        Takes MLflow's webhooks at `settings.metrics_address`; None takes none.

    Raises
    ------
    InputError
        If an address cannot be bound, or a file of `settings.security` cannot be read.

    Examples
    --------
    >>> server = Server(Model.load("model.onnx"))  # doctest: +SKIP
    >>> server.start()  # doctest: +SKIP
    >>> server.address  # doctest: +SKIP
    '127.0.0.1:41235'
    >>> server.stop()  # doctest: +SKIP
    """

    def __init__(
        self, models: Model | Repository, settings: ServerSettings = EMBEDDED, *, hook: Hook | None = None
    ) -> None:
        self._settings, limits = settings, settings.limits
        host, _ = split_address(settings.address, "address")
        tokens = None if settings.security.tokens is None else Tokens(settings.security.tokens)
        credentials = server_credentials(settings.security)
        self.repository = Repository.of(models) if isinstance(models, Model) else models
        seconds = max(model.seconds for model in self.repository.models())
        self._queue = InferenceQueue(capacity=limits.places, settings=settings.queue, interval=seconds)
        self.metrics = Metrics(self._queue, self.repository.models)
        self._operations: OperationsServer | None = None
        self._tracer = Tracer(settings.operations) if settings.operations.trace_endpoint else None
        try:
            # Whoever may hold a thread for long is counted: calls by their places, streams, streams that have not sent
            # their config, and idle calls; so the spare ones are free for what ends soon. Only a request that trickles
            # in holds one uncounted.
            threads = limits.places + limits.max_streams + MAX_OPENING + MAX_IDLE_CALLS + SPARE_THREADS
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix="call")
            self._server = grpc.server(
                self._threads,
                maximum_concurrent_rpcs=threads * CALLS_PER_THREAD,
                interceptors=[*([TokenInterceptor(tokens)] if tokens else []), MalformedInterceptor()],
                options=_channel_options(limits.max_message_bytes),
            )
            self._add_services(tokens)
            if settings.metrics_address:
                self._operations = OperationsServer(
                    settings.metrics_address,
                    self.metrics.registry,
                    alive=self.is_alive,
                    ready=lambda: self._serving,
                    hook=hook,
                )
            self.port: int = self._listen(credentials)
        except BaseException:
            self._queue.close()
            raise
        self.address: str = f"{host}:{self.port}"
        self._serving = False
        self._ended = threading.Event()
        self._warn_if_open(credentials is not None, tokens is not None)

    @property
    def metrics_address(self) -> str:
        """HOST:PORT of the metrics; empty where there are none."""
        return self._operations.address if self._operations else ""

    def is_alive(self) -> bool:
        """Tell whether the engine is not hanging."""
        return self._queue.busy_seconds < self._settings.operations.hang_seconds

    def observe(self, *observers: Observer) -> None:
        """Show answered frames to observers, which the server starts and stops; only before `start`."""
        self._answerer.observers = observers

    def start(self) -> None:
        """Begin to answer; returns at once."""
        for observer in self._answerer.observers:
            observer.start()
        self._server.start()
        if self._operations is not None:
            self._operations.start()
        self._serving = True
        self._health.set_serving(True)
        threading.Thread(target=self._watch_engine, name="watchdog", daemon=True).start()

    def stop(self, grace: float = 10.0) -> bool:
        """Drain and end: take nothing new, answer what was taken, then end the idle calls, which nobody waits for.

        While it drains the server still answers, new calls with UNAVAILABLE and health checks with NOT_SERVING.

        Parameters
        ----------
        grace
            Seconds after which what is still unanswered is cancelled.

        Returns
        -------
        Whether all has ended; not where the engine hangs.
        """
        self._serving = False
        self._ended.set()
        self._health.set_serving(False)
        deadline = time.monotonic() + grace
        self._accepted.close()
        self._segmentation.end_openings()
        self._accepted.wait(grace)
        self._idle.close()
        self._accepted.hold_refusals(True)
        time.sleep(max(0.0, min(HOLD_SECONDS, deadline - time.monotonic())))
        stopped = self._server.stop(max(0.0, min(LAST_SECONDS, deadline - time.monotonic())))
        self._accepted.hold_refusals(False)
        stopped.wait()
        ended = self._queue.close(max(LAST_SECONDS, deadline - time.monotonic()))
        self._threads.shutdown(wait=False)
        for observer in self._answerer.observers:
            observer.close(max(LAST_SECONDS, deadline - time.monotonic()))
        if self._operations is not None:
            self._operations.stop()
        if self._tracer is not None:
            self._tracer.close(max(LAST_SECONDS, deadline - time.monotonic()))
        return ended

    def _add_services(self, tokens: Tokens | None) -> None:
        limits = self._settings.limits
        clients = Clients(tokens)
        self._answerer = answerer = Answerer(
            self.repository,
            self._queue,
            max_pixels=limits.max_pixels,
            metrics=self.metrics,
            clients=clients,
            tracer=self._tracer,
        )
        # Each is counted until its answer has been read, so that what nobody reads does not pile up.
        most = limits.places + limits.max_streams + MAX_UNREAD
        self._accepted = Calls("calls", most, max_clients=limits.max_clients)
        self._idle = Calls("idle calls", MAX_IDLE_CALLS, per_client=max(1, MAX_IDLE_CALLS // 4))
        self._segmentation = SegmentationService(answerer, limits, self._accepted)
        self._server.add_generic_rpc_handlers((self._segmentation.handlers(),))
        oip_grpc.add_GRPCInferenceServiceServicer_to_server(
            OpenInference(answerer, limits, self._accepted), self._server
        )
        served = (SERVICE, OPEN_INFERENCE)
        self._health = Health(served, self._idle)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        told = (*served, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(told, self._idle), self._server)

    def _listen(self, credentials: grpc.ServerCredentials | None) -> int:
        address = self._settings.address
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            doubt = "is the port in use, or the host unknown" + (", or the certificate not PEM" if credentials else "")
            raise InputError(f"address: cannot listen at '{address}'; {doubt}? ({error})") from error

    def _watch_engine(self) -> None:
        """Say NOT_SERVING while the engine hangs."""
        well = True
        while not self._ended.wait(WATCH_SECONDS):
            was_well, well = well, self.is_alive()
            if well == was_well or not self._serving:
                continue
            if well:
                logger.info("the engine answers again")
            else:
                logger.error("the engine hangs: %.0f s at one inference", self._queue.busy_seconds)
            self._health.set_serving(well)

    def _warn_if_open(self, encrypted: bool, tokens: bool) -> None:
        if is_loopback(self._settings.address):
            return
        if not encrypted:
            logger.warning("%s: in the clear; security.certificate and private_key encrypt", self.address)
        if not tokens and self._settings.security.client_authorities is None:
            logger.warning(
                "%s: whoever reaches it may call; security.tokens or client_authorities restrict", self.address
            )


def _channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    ping, patience = (int(seconds * 1000) for seconds in KEEPALIVE_SECONDS)
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),  # bounded by max_pixels
        ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION),  # what is more waits at the client
        ("grpc.so_reuseport", 0),  # else two servers share a port, and nobody is told
        ("grpc.keepalive_time_ms", ping),
        ("grpc.keepalive_timeout_ms", patience),
        ("grpc.http2.ping_timeout_ms", patience),  # else a minute, whatever the line above says
        ("grpc.http2.max_pings_without_data", 0),  # no limit: a silent stream is pinged all the same
        ("grpc.http2.min_ping_interval_without_data_ms", ping // 2),  # what clients may do likewise
    ]
