FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/pilothouse
COPY requirements/app.txt requirements/
RUN /opt/pilothouse/bin/pip install --require-hashes -r requirements/app.txt
COPY core core
COPY sdk sdk
# The core and the command line are built with the pinned build tools; then they go, pip as the last.
RUN /opt/pilothouse/bin/pip install --no-build-isolation --no-deps ./core ./sdk \
    && /opt/pilothouse/bin/pip uninstall --yes \
        editables hatchling pathspec pluggy setuptools trove-classifiers \
    && /opt/pilothouse/bin/pip uninstall --yes pip

FROM python:3.11-slim
RUN python -m pip uninstall --yes setuptools wheel \
    && python -m pip uninstall --yes pip \
    && groupadd --system --gid 10001 pilothouse \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin pilothouse \
    && install --directory --owner=10001 --group=10001 --mode=700 /var/lib/pilothouse
COPY --from=build /opt/pilothouse /opt/pilothouse
WORKDIR /srv/pilothouse
COPY app app
COPY migrations migrations
ENV PATH=/opt/pilothouse/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8082 \
    PILOTHOUSE_DATA_DIR=/var/lib/pilothouse
# By number: an orchestrator that demands a user who is not root cannot look names up.
USER 10001:10001
EXPOSE 8082
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", \
    "import os; from urllib.request import urlopen; urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/live', timeout=2)"]
CMD ["python", "-m", "app", "serve"]
