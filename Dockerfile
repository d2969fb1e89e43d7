# Not built yet: written and linted without a Docker daemon at hand. Build it, and run the last command once:
#
#     docker build -t arm-sr .
#     docker run --rm arm-sr --version
#     docker run --rm -v "$PWD:/pictures" --user "$(id -u):$(id -g)" arm-sr upscale photo.jpg -b 40% -o large.png
#
# CPU only. What `arm-sr calibrate` measures is kept in /cache, which may be a volume.

FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build==1.6.1 \
    && python -m build --wheel --outdir /wheels . \
    && python -m venv /opt/arm-sr \
    && /opt/arm-sr/bin/pip install --no-cache-dir -c constraints.txt /wheels/*.whl

FROM python:3.11-slim
COPY --from=build /opt/arm-sr /opt/arm-sr
# Any user of --user may write the cache.
RUN useradd --create-home --uid 1000 arm-sr && install --directory --mode=1777 /cache /pictures
ENV XDG_CACHE_HOME=/cache
USER 1000
WORKDIR /pictures
ENTRYPOINT ["/opt/arm-sr/bin/arm-sr"]
CMD ["--help"]
