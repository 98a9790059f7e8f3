# Novum in a container, for CPUs or for NVIDIA GPUs:
#   docker build --tag novum .
#   docker build --tag novum:cuda --build-arg DEVICE=cuda .
#   docker run --rm --volume "$PWD:/data" novum novum-evaluate out/ data/train data/test
#   docker run --rm --gpus all --volume "$PWD:/data" novum:cuda novum-train fit --config dcgan_digits
ARG PYTHON=3.11-slim-bookworm
ARG DEVICE=cpu

FROM python:${PYTHON} AS base
RUN python -m venv /opt/novum
ENV PATH=/opt/novum/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt /tmp/constraints.txt

# every package by its hash; torch for GPUs brings CUDA's libraries with it
FROM base AS packages-cuda
RUN pip install --require-hashes --only-binary :all: --requirement /tmp/constraints.txt

# the same but for torch without CUDA, of the versions pinned, from PyTorch's own index
FROM base AS packages-cpu
COPY .ci/without_cuda.py /tmp/without_cuda.py
RUN python /tmp/without_cuda.py /tmp/constraints.txt /tmp/others.txt /tmp/torch.txt \
    && pip install --require-hashes --only-binary :all: --no-deps --requirement /tmp/others.txt \
    && pip install --only-binary :all: --no-deps --requirement /tmp/torch.txt \
        --index-url https://download.pytorch.org/whl/cpu

# a stage above, and no image
# hadolint ignore=DL3006
FROM packages-${DEVICE} AS installed
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY novum novum
COPY callbacks callbacks
COPY configs configs
COPY datamodules datamodules
COPY lightning_modules lightning_modules
RUN pip install --no-cache-dir --no-index --no-deps --no-build-isolation .

FROM python:${PYTHON}
COPY --from=installed /opt/novum /opt/novum
ENV PATH=/opt/novum/bin:$PATH NOVUM_CACHE=/cache NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home --uid 1000 novum && install --directory --owner novum /cache /data
USER 1000
WORKDIR /data
VOLUME /cache
CMD ["novum-evaluate", "--help"]
