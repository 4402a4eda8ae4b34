# One image for ingest, worker, beat and flower; `--target model` for the reference model server.
#
#   docker build -t sinfer .
#   docker run --rm -e SINFER_REDIS_URL=... sinfer celery -A sinfer.tasks worker
FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/sinfer
# Dependencies first: they change less often than the code.
COPY constraints.txt pyproject.toml README.md LICENSE beat_schedule.py ./
COPY sinfer ./sinfer
RUN /opt/sinfer/bin/pip install --quiet --constraint constraints.txt '.[postgresql,mysql]'

FROM build AS build-model
RUN /opt/sinfer/bin/pip install --quiet --constraint constraints.txt '.[embedded]'

FROM python:3.13-slim AS base
ENV PATH=/opt/sinfer/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --create-home --home-dir /home/sinfer sinfer \
    && install --directory --owner sinfer --group sinfer /data /products
# Packages mounted at /products can be named in SINFER_PRODUCTS.
WORKDIR /products
USER 10001
STOPSIGNAL SIGTERM

FROM base AS model
COPY --from=build-model /opt/sinfer /opt/sinfer
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
CMD ["python", "-m", "sinfer.embedded.model_server", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS sinfer
COPY --from=build /opt/sinfer /opt/sinfer
# Whatever the process is, it can do nothing without its window store.
HEALTHCHECK --interval=30s --timeout=15s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import asyncio; from sinfer.store.connection import Store; asyncio.run(Store.from_settings().redis.ping())"]
CMD ["sinfer", "--help"]
