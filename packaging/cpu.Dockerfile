# vlmadapt on a CPU. In the repository's root:
#
#   docker build --file packaging/cpu.Dockerfile --tag vlmadapt:cpu .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" vlmadapt:cpu fit --method mmrl++
#
# torch comes with CUDA's libraries unless pip is given the index of its CPU builds, which torch's own page names:
# --build-arg PIP_EXTRA_INDEX_URL=ADDRESS makes the image several gigabytes smaller.
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=""
COPY . /opt/vlmadapt
RUN pip install --no-cache-dir /opt/vlmadapt

# Weights and rendered images; mount a volume here to keep them. Any user may write, see --user above.
ENV HOME=/cache HF_HOME=/cache/huggingface VLMADAPT_CACHE=/cache/vlmadapt
RUN mkdir --mode 1777 /cache
WORKDIR /work
ENTRYPOINT ["vlmadapt"]
