"""The reports of a pipeline and of the demo, as a person reads them; imports nothing heavy, for the command line."""

import sys
from pathlib import Path
from typing import Any


def percent(fraction: float | None) -> str:
    """Lay out a fraction in percent, five characters; None as a dash."""
    return "    -" if fraction is None else f"{100 * fraction:5.1f}"


def pipeline_lines(report: dict[str, Any]) -> list[str]:
    """Lay out the results of a pipeline that a person compares, in percent."""
    rows = [("floor: the bands alone", report["floor_miou"], None)]
    for number, (pseudo, miou, category) in enumerate(
        zip(report["pseudo_miou"], report["miou_class"], report["miou_category"], strict=True)
    ):
        rows.append((f"round {number}: pseudo labels (training split)", pseudo, None))
        rows.append((f"round {number}: network", miou, category))
    if report["twin_miou_class"] is not None:
        rows.append(("twin: the network on true labels", report["twin_miou_class"], report["twin_miou_category"]))
    rows.append(("ceiling: best label of each superpixel", report["ceiling_miou"], None))
    table = [f"{'mean IoU, %':<44} class  category"]
    table += [f"{name:<44} {percent(miou)}     {percent(category)}" for name, miou, category in rows]
    return [
        *table,
        "",
        f"model     {report['onnx']}",
        f"pictures  training frames in {report['out']}/round_{len(report['miou_class']) - 1}/evaluation",
        f"MLflow    {_page(report['mlflow_uri'])}",
        f"          run {report['mlflow_run_id']}",
    ]


def _page(uri: str) -> str:
    """Return where MLflow's page is, or what shows it."""
    if uri.startswith("http"):
        return uri
    return f"{Path(sys.executable).with_name('mlflow')} ui --backend-store-uri {uri}"


def demo_lines(report: dict[str, Any]) -> list[str]:
    """Lay out what the demo adds."""
    return [
        f"served    {report['frames_served']} frames; {100 * report['mask_agreement']:.2f} % of the pixels are as the "
        f"model answers directly; see {report['pictures']}",
        f"annotated frame with its pixels, pseudo label, prediction and truth in {report['out']}/annotated",
        f"seconds   {report['seconds']:.0f}",
    ]
