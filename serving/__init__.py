"""Online: frames in, masks out. Never imports torch, never imports training."""

import os

for _variable in ("ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY"):
    os.environ.setdefault(_variable, "1")  # before they are imported: they would report to their makers what runs here
