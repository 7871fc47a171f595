# syntax=docker/dockerfile:1
# Targets: serving (no torch), training, torchserve. Build one with `docker build --target serving -t onepixel-serving .`
# Nobody has built these images where they were written, which had no Docker engine; docs/deployment.md says what was
# checked instead.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never PYTHONDONTWRITEBYTECODE=1
RUN python -m pip install --no-cache-dir uv==0.11.28
WORKDIR /source
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY proto ./proto
COPY serving ./serving
COPY training ./training
RUN uv build --wheel --out-dir /wheel

FROM build AS serving-environment
# With `gpu`, ONNX Runtime's package for CUDA takes the place of the one for CPUs, and CUDA and cuDNN come along.
ARG RUNTIME=cpu
COPY deploy/serving.lock deploy/serving-gpu.lock /locks/
RUN uv venv /opt/onepixel \
    && if [ "$RUNTIME" = gpu ]; then lock=/locks/serving-gpu.lock; else lock=/locks/serving.lock; fi \
    && uv pip sync --python /opt/onepixel/bin/python --no-cache --require-hashes "$lock" \
    && uv pip install --python /opt/onepixel/bin/python --no-cache --no-deps /wheel/*.whl

FROM python:${PYTHON}-slim-bookworm AS serving
LABEL org.opencontainers.image.title="onepixel serving" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=serving-environment /opt/onepixel /opt/onepixel
COPY model_store /models
# A volume that is mounted here for the first time takes over the owner.
RUN install -d -o 10001 -g 10001 /cache /collected
ENV PATH=/opt/onepixel/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
EXPOSE 50051 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "serving", "health", "127.0.0.1:50051"]
ENTRYPOINT ["python", "-m", "serving"]
CMD ["serve", "--model", "/models", "--address", "0.0.0.0:50051", "--metrics-address", "0.0.0.0:8002", "--set", "operations.log_format=json"]

FROM build AS training-environment
COPY requirements.lock ./
RUN uv venv /opt/onepixel \
    && uv pip sync --python /opt/onepixel/bin/python --no-cache --require-hashes requirements.lock \
    && uv pip install --python /opt/onepixel/bin/python --no-cache --no-deps /wheel/*.whl

FROM python:${PYTHON}-slim-bookworm AS training
LABEL org.opencontainers.image.title="onepixel training" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=training-environment /opt/onepixel /opt/onepixel
ENV PATH=/opt/onepixel/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /work
RUN install -d -o 10001 -g 10001 /work /artifacts
USER 10001:10001
VOLUME ["/work"]
ENTRYPOINT ["onepixel"]
CMD ["--help"]

FROM build AS torchserve-environment
COPY serving/torchserve/requirements.lock ./torchserve.lock
RUN uv venv /opt/onepixel \
    && uv pip sync --python /opt/onepixel/bin/python --no-cache --require-hashes torchserve.lock \
    && uv pip install --python /opt/onepixel/bin/python --no-cache --no-deps /wheel/*.whl
COPY model_store/camvid/1/model.onnx /source/model_store/camvid/1/model.onnx
RUN /opt/onepixel/bin/python -m serving package /source/model_store/camvid/1/model.onnx --out /models/camvid.mar

FROM python:${PYTHON}-slim-bookworm AS torchserve
LABEL org.opencontainers.image.title="onepixel torchserve" org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends openjdk-17-jre-headless && rm -rf /var/lib/apt/lists/*
COPY --from=torchserve-environment /opt/onepixel /opt/onepixel
COPY --from=torchserve-environment /models /models
ENV PATH=/opt/onepixel/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
EXPOSE 7070 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "serving"]
CMD ["torchserve", "/models/camvid.mar", "--host", "0.0.0.0"]
