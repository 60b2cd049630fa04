# The service on a CPU. docker build -t lbam-fast . && docker run --rm -p 127.0.0.1:8000:8000 lbam-fast
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ cmake ninja-build && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in CMakeLists.txt constraints.txt README.md LICENSE ./
COPY csrc csrc
COPY kernels kernels
COPY lbam_fast lbam_fast
RUN python -m venv /opt/lbam
# PyTorch without CUDA, which is a tenth of the size; the constraints name its version.
RUN /opt/lbam/bin/python -m pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' constraints.txt)"
RUN LBAM_NATIVE=require /opt/lbam/bin/python -m pip install --no-cache-dir -c constraints.txt '.[serve,heif]'

FROM python:3.12-slim
RUN useradd --system --no-create-home lbam
COPY --from=build /opt/lbam /opt/lbam
USER lbam
ENV PATH=/opt/lbam/bin:$PATH HOME=/tmp LBAM_SERVE_HOST=0.0.0.0
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
CMD ["lbam-fast", "serve"]
