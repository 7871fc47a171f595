"""Ten thousand frames and a hundred swaps, after which memory should be what it was."""

from typing import Any

from tqdm import tqdm

from serving.benchmarks.bench import Bench, Findings, growth
from serving.benchmarks.load import StreamLoad, UnaryLoad
from serving.benchmarks.swap import SWAPS, two_models
from serving.benchmarks.swapping import POLL_SECONDS, VersionFolder
from serving.client import Client

FRAMES = 10_000
PARTS = 20
"""Between which memory is looked at, and models are swapped."""


def run_soak(bench: Bench) -> Findings:
    """Send frames to the model that costs almost nothing, whose server has little memory for a leak to hide in.

    Returns
    -------
    `memory_ratio`, the memory at the end over that after warm-up.
    """
    case = bench.tiny
    folder = VersionFolder(bench.folder / "soak", two_models(bench, case))
    frames = bench.count(FRAMES, least=10 * PARTS) // PARTS
    swaps = bench.count(SWAPS, least=PARTS) // PARTS
    memory = []
    with (
        bench.server(folder.path, repository__poll_seconds=POLL_SECONDS) as server,
        Client(server.address) as client,
    ):
        common: dict[str, Any] = {"address": server.address, "frames": frames // 2}
        for _ in tqdm(range(PARTS), desc="soak", disable=None):
            under_way = bench.generator.start(
                UnaryLoad(requests=case.requests, clients=4, **common), StreamLoad(images=case.images, **common)
            )
            for _ in range(swaps):
                folder.swap(client)
            for run in under_way.result():
                bench.account(run)
            memory.append(server.resident_bytes())
    return Findings({"memory_ratio": growth(memory)}, {"soak": {"frames": frames * PARTS, "memory_bytes": memory}})
