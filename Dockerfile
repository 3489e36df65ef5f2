# What a job needs, from the pins of requirements.txt: for `--sdm apptainer` and profiles/kubernetes.
#   docker build --tag ls4-benchmark .
#   apptainer build ls4-benchmark.sif docker-daemon:ls4-benchmark:latest
# Without GPUs, smaller: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
FROM python:3.12-slim-bookworm
ARG PIP_EXTRA_INDEX_URL

# For the storage plugin of profiles/kubernetes.
RUN apt-get update && apt-get install --yes --no-install-recommends rsync && rm -rf /var/lib/apt/lists/*

COPY requirements.txt requirements-cluster.txt /opt/
RUN pip install --no-cache-dir -r /opt/requirements.txt -r /opt/requirements-cluster.txt
