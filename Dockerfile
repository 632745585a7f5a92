# Build:  docker build -t lensmount .                       CUDA builds of torch, which also run on a CPU
#         docker build -t lensmount --build-arg TORCH=cpu . CPU-only builds, about a quarter of the size
# Run:    docker run -e LENSMOUNT_TOKEN=... -p 127.0.0.1:8000:8000 -v lensmount-state:/state lensmount
# LENSMOUNT_TOKEN is required: the server refuses to listen beyond loopback without one.
FROM python:3.12-slim

ARG TORCH=default
ENV VIRTUAL_ENV=/opt/lensmount \
    PATH=/opt/lensmount/bin:$PATH \
    UV_NO_CACHE=1 \
    UV_COMPILE_BYTECODE=1 \
    LENSMOUNT_STATE=/state \
    XDG_CACHE_HOME=/state/cache

RUN pip install --no-cache-dir "uv>=0.9" && python -m venv --without-pip "$VIRTUAL_ENV"
RUN useradd --create-home lensmount && install -d -o lensmount -g lensmount /state

WORKDIR /src

# Dependencies only, so that a code change does not rebuild the layer with torch.
COPY pyproject.toml constraints.txt ./
RUN uv pip install $(test "$TORCH" = default || echo "--torch-backend=$TORCH") -c constraints.txt -r pyproject.toml --extra serve --extra train --extra openvino --extra llvm --extra otel --extra postgres --extra s3 --extra grpc

# The project itself, with the zoo's adapters and the recipes.
COPY README.md LICENSE ./
COPY client ./client
COPY adapters ./adapters
COPY service ./service
COPY recipes ./recipes
RUN uv pip install $(test "$TORCH" = default || echo "--torch-backend=$TORCH") -c constraints.txt ".[serve,train,openvino,llvm,otel,postgres,s3,grpc]"

USER lensmount
WORKDIR /state
VOLUME /state
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/health/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["lensmount"]
CMD ["serve", "--host", "0.0.0.0"]
