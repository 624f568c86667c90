# One image for the API, Celery's workers and Flower. docs/howto/deploy.md says how it is run.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/image-processor
ENV PATH=/opt/image-processor/bin:$PATH
WORKDIR /build
# The dependencies first: they change less often than the code. Wheels, so that no compiler is needed; pyvips
# alone has none, and compiles nothing as its library is in pyvips-binary.
COPY requirements/image.lock ./
RUN pip install --only-binary :all: --no-binary pyvips --require-hashes --requirement image.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-deps --no-build-isolation . \
    && pip uninstall --yes editables hatchling pathspec pluggy tomlkit trove-classifiers setuptools pip

FROM python:${PYTHON_VERSION}-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="image-processor" \
      org.opencontainers.image.description="Upload, check, process into variants, store, serve." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Letters of watermarks that the built-in font has not. Not pinned: Debian keeps one version at a time.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends fonts-dejavu-core \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 image-processor \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin \
        image-processor \
    && install --directory --owner 10001 --group 10001 --mode 0750 /data
COPY --from=build /opt/image-processor /opt/image-processor
COPY deploy/healthcheck.py /opt/image-processor/healthcheck.py
# MALLOC_ARENA_MAX: many threads and few allocations; glibc's arenas would only fragment.
ENV PATH=/opt/image-processor/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    DATA_PATH=/data \
    PORT=8000 \
    LOG_FORMAT=json
USER 10001:10001
# Nothing is written elsewhere but in /tmp: the root file system may be read-only.
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Running jobs get 20 seconds after it: allow 35 before a kill (`docker stop --timeout 35`).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-I", "/opt/image-processor/healthcheck.py"]
CMD ["image-processor", "serve", "--host", "0.0.0.0"]
