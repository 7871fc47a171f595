"""The export parity table on one network and a few small frames."""

import pytest

from training.export import table
from training.export.export import OPSET
from training.export.table import as_json, as_markdown


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.setattr(table, "SIZES", ((65, 97),))
    monkeypatch.setattr(table, "FRAMES", 3)
    monkeypatch.setattr(table, "UPDATES", 6)
    return table.export_table(["deeplab_mobilenet_v2"])


@pytest.mark.slow
def test_each_precision_has_a_row_that_compares_it_with_its_network(rows):
    assert [row.precision for row in rows] == ["fp32", "fp16", "int8"]
    fp32, fp16, int8 = rows
    assert fp32.agreement >= 0.9999 and fp32.near_ties_only and fp32.refused is None and fp32.miou_difference is None
    assert fp32.mib > fp16.mib > int8.mib
    assert all(row.batches_equal and row.opset == OPSET and row.classes > 1 for row in rows)
    lines = as_markdown(rows)
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| mobilenet_v2 | fp32 | 65 x 97 | ")
    assert as_json(rows)["rows"][0]["size"] == (65, 97)
