# cfx as an ordinary user in a container. Two variants that differ in torch alone:
#   make image VARIANT=cpu                    # or cuda; the wheel first, then docker build
#   docker run --rm -v cfx:/work cfx-audit:cpu cfx demo
#   docker run --rm -v cfx:/work -p 127.0.0.1:8100:8100 cfx-audit:cpu          # the explorer: http://127.0.0.1:8100
# Layers from what changes least to what changes with every build; no secret is an argument or a layer.
ARG PYTHON=3.11.14-slim-bookworm
ARG VARIANT=cpu

FROM python:${PYTHON} AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
RUN groupadd --gid 10001 cfx \
    && useradd --uid 10001 --gid cfx --create-home cfx \
    && install --directory --owner cfx --group cfx /work
COPY requirements-runtime.lock /tmp/

# Everything as locked, torch with CUDA among it; the host brings the driver (docker run --gpus all).
FROM base AS cuda
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/requirements-runtime.lock

# Without CUDA: PyTorch publishes those builds on an index of its own. Their versions are the lock's, their hashes that index's.
FROM base AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN awk '/^[^ #]/ { cuda = /^(torch|torchvision|triton)==|^(cuda|nvidia)-/ } !cuda' /tmp/requirements-runtime.lock > /tmp/cpu.lock \
    && pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/cpu.lock \
    && grep -oE '^(torch|torchvision)==[^ ]+' /tmp/requirements-runtime.lock > /tmp/torch.txt \
    && pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" --requirement /tmp/torch.txt

FROM ${VARIANT}
COPY dist/cfx_audit-*.whl /tmp/
RUN pip install --no-cache-dir --no-deps /tmp/cfx_audit-*.whl && pip check && rm /tmp/cfx_audit-*.whl
USER 10001:10001
WORKDIR /work
EXPOSE 8100
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "__import__('urllib.request').request.urlopen('http://127.0.0.1:8100/style.css',timeout=4)"]
CMD ["cfx", "serve", "--host", "0.0.0.0", "--expose", "--name", "127.0.0.1", "--name", "localhost"]
