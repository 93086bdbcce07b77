# fam without PyTorch, with the packaged models and the web page, on the CPU: see docs/guides/container.md.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
COPY pyproject.toml README.md LICENSE /src/
COPY famcli /src/famcli
COPY famcli_models /src/famcli_models
# What fam needs, PyTorch aside, is known to fam itself; packaging reads it.
RUN python3 -m venv /opt/fam \
 && /opt/fam/bin/pip install --no-cache-dir packaging \
 && /opt/fam/bin/pip install --no-cache-dir --no-deps /src \
 && /opt/fam/bin/python -c "from famcli.version import requirements as r; print(*r(pytorch=False, extra='app'), sep='\n')" \
      > /src/requirements.txt \
 && /opt/fam/bin/pip install --no-cache-dir -r /src/requirements.txt

FROM ${BASE}
COPY --from=build /opt/fam /opt/fam
# Nothing is written but into /tmp and what is mounted: caches follow HOME.
ENV PATH=/opt/fam/bin:$PATH HOME=/tmp
USER 1000:1000
WORKDIR /tmp
EXPOSE 7860
# fam app ends at Ctrl-C, and so does the container.
STOPSIGNAL SIGINT
ENTRYPOINT ["fam"]
CMD ["--help"]
