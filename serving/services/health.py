"""`grpc.health.v1` for the server as a whole and for its service by name."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

SERVICE = "onepixel.v1.SegmentationService"


class Health:
    """What the server says of its health: NOT_SERVING until told otherwise.

    Parameters
    ----------
    server
        The server to add the service to, before it starts.
    """

    def __init__(self, server: grpc.Server) -> None:
        self._servicer = HealthServicer()
        self.set_serving(False)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def set_serving(self, serving: bool) -> None:
        """Say so to those who ask and to those who watch."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            self._servicer.set(service, status)
