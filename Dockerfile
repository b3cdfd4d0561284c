# One small image per service: docker build --target store .
# The targets differ in the packages they install; everything else is shared.
FROM python:3.13.9-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PATH=/opt/steersman/bin:$PATH
RUN useradd --uid 10001 --create-home --home-dir /home/steersman steersman \
    && python -m venv /opt/steersman
WORKDIR /src
COPY requirements/bootstrap.txt requirements/bootstrap.txt
RUN pip install --require-hashes -r requirements/bootstrap.txt
COPY contracts contracts
COPY runtime runtime

FROM base AS store
COPY requirements/store.txt requirements/store.txt
RUN uv pip install --no-cache --require-hashes -r requirements/store.txt
COPY services/store services/store
RUN uv pip install --no-cache --no-deps --no-build-isolation ./contracts ./runtime ./services/store
USER steersman
ENV STEERSMAN_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["python", "-m", "steersman_runtime.probe", "http://127.0.0.1:8080/readyz"]
CMD ["python", "-m", "steersman_store"]

FROM base AS chatloop
COPY requirements/chatloop.txt requirements/chatloop.txt
RUN uv pip install --no-cache --require-hashes -r requirements/chatloop.txt
COPY services/chatloop services/chatloop
RUN uv pip install --no-cache --no-deps --no-build-isolation ./contracts ./runtime ./services/chatloop
USER steersman
ENV STEERSMAN_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["python", "-m", "steersman_runtime.probe", "http://127.0.0.1:8080/readyz"]
CMD ["python", "-m", "steersman_chatloop"]

FROM base AS tools
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
COPY requirements/tools.txt requirements/overrides.txt requirements/
RUN uv pip install --no-cache --require-hashes --overrides requirements/overrides.txt -r requirements/tools.txt \
    && install -d -o steersman -g steersman -m 0700 /var/lib/steersman/workspaces
COPY services/tools services/tools
COPY plugins plugins
RUN uv pip install --no-cache --no-deps --no-build-isolation ./contracts ./runtime ./services/tools ./plugins/files ./plugins/exec ./plugins/computer ./plugins/web ./plugins/workspaces ./plugins/mcp
USER steersman
ENV STEERSMAN_LISTEN=0.0.0.0:8080 STEERSMAN_WORKSPACES_DIR=/var/lib/steersman/workspaces
VOLUME /var/lib/steersman/workspaces
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["python", "-m", "steersman_runtime.probe", "http://127.0.0.1:8080/readyz"]
CMD ["python", "-m", "steersman_tools"]

# With the program that starts containers: the tools service of compose.containers.yaml.
FROM tools AS tools-containers
COPY --from=docker:28.3.3-cli /usr/local/bin/docker /usr/local/bin/docker

FROM base AS desktop
RUN apt-get update \
    && apt-get install -y --no-install-recommends tigervnc-standalone-server icewm xterm chromium \
       x11-xkb-utils xkb-data xauth fonts-dejavu-core fonts-noto-cjk fonts-noto-color-emoji tini \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -m 1777 /tmp/.X11-unix
COPY requirements/desktop.txt requirements/desktop.txt
RUN uv pip install --no-cache --require-hashes -r requirements/desktop.txt
COPY services/desktop services/desktop
RUN uv pip install --no-cache --no-deps --no-build-isolation ./contracts ./runtime ./services/desktop \
    && install -d -o steersman -g steersman -m 0700 /var/lib/steersman/recordings
USER steersman
ENV STEERSMAN_LISTEN=0.0.0.0:8080 STEERSMAN_RECORDINGS_DIR=/var/lib/steersman/recordings
VOLUME /var/lib/steersman/recordings
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["python", "-m", "steersman_runtime.probe", "http://127.0.0.1:8080/readyz"]
# Programs on desktops leave orphans to process 1, which has to reap them.
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "steersman_desktop"]

FROM base AS gateway
COPY requirements/gateway.txt requirements/gateway.txt
RUN uv pip install --no-cache --require-hashes -r requirements/gateway.txt
COPY services/gateway services/gateway
RUN uv pip install --no-cache --no-deps --no-build-isolation ./contracts ./runtime ./services/gateway
USER steersman
ENV STEERSMAN_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["python", "-m", "steersman_runtime.probe", "http://127.0.0.1:8080/readyz"]
CMD ["python", "-m", "steersman_gateway"]
