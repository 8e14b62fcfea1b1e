# One image for everything that Compose starts (docs/compose.md). Pinned dependencies with hashes, no build tools.
FROM python:3.13-slim AS build
WORKDIR /build

# An environment whose pip and build backend stay here, and one without pip that goes into the image.
RUN python3 -m venv tools && python3 -m venv --without-pip /opt/tokenderby

# Empty: Python's own package index. Behind a mirror: --build-arg PIP_INDEX_URL=... (in Compose: the setting of that name).
ARG PIP_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.txt requirements/container.txt requirements/
RUN tools/bin/pip install -q --require-hashes -r requirements/build.txt \
 && tools/bin/pip --python /opt/tokenderby/bin/python install -q --no-compile --require-hashes --only-binary :all: \
    -r requirements/container.txt

# Tests, headers, translations and the like.
COPY containers/slim.py containers/
RUN python3 containers/slim.py /opt/tokenderby \
 && /opt/tokenderby/bin/python -m compileall -q -j 0 /opt/tokenderby/lib

COPY pyproject.toml README.md LICENSE ./
COPY servers servers
COPY clients clients
COPY bench bench
RUN tools/bin/pip wheel -q --no-deps --no-build-isolation -w dist . \
 && tools/bin/pip --python /opt/tokenderby/bin/python install -q --no-deps --no-index dist/*.whl \
 && /opt/tokenderby/bin/python -m compileall -q -j 0 /opt/tokenderby/lib
COPY containers/as_owner.py bin/as-owner
COPY containers/notebook.sh bin/notebook
RUN chmod 755 bin/* && cp bin/* /opt/tokenderby/bin/ \
 && cd /opt/tokenderby && ln -s lib/python3*/site-packages/clients clients


FROM python:3.13-slim
COPY --from=build /opt/tokenderby /opt/tokenderby
COPY results/review.ipynb /opt/tokenderby/
# The file system may be read-only: what a program wants to write at home goes to /tmp.
ENV PATH=/opt/tokenderby/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# No repository in the image: run.json names this commit. Last, because it changes oftenest.
ARG GIT_COMMIT=
ENV TOKENDERBY_GIT_COMMIT=$GIT_COMMIT
WORKDIR /tokenderby
USER 10001:10001
ENTRYPOINT ["tokenderby"]
CMD ["--help"]
