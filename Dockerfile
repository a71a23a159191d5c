# The demo in a container, its store and runs in a volume:
#   docker build --tag vsrprune . && docker run --rm --init --volume vsrprune:/work vsrprune
# Anything else: docker run --rm --init --volume vsrprune:/work vsrprune report runs
# Into a folder of one's own: mkdir out, then --user "$(id -u):$(id -g)" --volume "$PWD/out:/work"
# On NVIDIA's GPUs (with their container toolkit; docs/gpu.md says which build goes with which driver):
#   docker build --tag vsrprune:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm --init --gpus all --shm-size 8g --volume vsrprune:/work vsrprune:cuda
FROM python:3.11-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /source
# torch by itself, so that a change of the source does not fetch it again. Of equal versions pip takes the one with a
# local part, which is that of this index: 2.13.0+cpu rather than 2.13.0.
COPY constraints.txt ./
RUN pip install --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" torch
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
COPY conf conf
COPY sweeps sweeps
COPY analysis analysis
RUN pip install --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" ".[report,search,deploy]" \
    && useradd --uid 1000 vsrprune \
    && install --directory --owner=1000 /work \
    && rm -r build

# Any user of the host may be named by --user: caches go where everyone can write, and PyTorch asks for a name.
ENV HOME=/tmp USER=vsrprune
USER 1000
WORKDIR /work
ENTRYPOINT ["vsrprune"]
CMD ["run", "-m", "rsc=true,false", "ratio=0.3,0.5,0.7"]
