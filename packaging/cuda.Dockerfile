# vlmadapt on NVIDIA GPUs; the host needs their driver and the NVIDIA container toolkit. In the repository's root:
#
#   docker build --file packaging/cuda.Dockerfile --tag vlmadapt:cuda .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/work" vlmadapt:cuda fit --method mmrl++
#
# torch's wheels for Linux hold the CUDA libraries that they were built for, so no CUDA image is needed below.
FROM python:3.11-slim

COPY . /opt/vlmadapt
RUN pip install --no-cache-dir /opt/vlmadapt

# Weights and rendered images; mount a volume here to keep them. Any user may write, see --user above.
ENV HOME=/cache HF_HOME=/cache/huggingface VLMADAPT_CACHE=/cache/vlmadapt
RUN mkdir --mode 1777 /cache
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /work
ENTRYPOINT ["vlmadapt"]
