import json

import pytest
from click.testing import CliRunner

from serving.benchmarks.transport import main


@pytest.mark.slow
def test_the_transport_benchmark_measures_all_contenders() -> None:
    result = CliRunner().invoke(main, ["--rounds", "5", "--calls", "20", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert list(figures) == ["bare", "sync", "aio", "server"]
    assert figures["bare"]["cpu_ratio"] == 1.0
    for contender in ("sync", "aio", "server"):
        assert figures[contender]["cpu_ratio"] > 1 and figures[contender]["per_second"] > 0
