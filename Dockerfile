# The control plane as one image, built from a checkout:
#
#   docker build --tag tidegate:0.1.0 .
#
# One image, one process a container: `docker run tidegate:0.1.0 controllers worker`, or `gateway`,
# `console`, `tidegate status`.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS packages
WORKDIR /build
COPY requirements.lock pyproject.toml ./
# Each file is checked against the lock's hashes as it comes. What is installed afterwards is only
# what the control plane needs, and it can only be found among those files.
RUN pip download --no-deps --require-hashes --dest wheels --requirement requirements.lock
RUN python -c 'import pathlib, tomllib; \
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text()); \
needs = project["project"]["dependencies"] + project["dependency-groups"]["control-plane"]; \
pathlib.Path("needs.txt").write_text("\n".join(needs))' \
    && python -m venv /opt/tidegate \
    && /opt/tidegate/bin/pip install --no-index --find-links wheels --requirement needs.txt

FROM python:${PYTHON}-slim
COPY --from=packages /opt/tidegate /opt/tidegate
WORKDIR /app
COPY LICENSE ./
COPY tidegate tidegate
COPY activities activities
COPY workflows workflows
COPY controllers controllers
COPY gateway gateway
COPY console console
RUN /opt/tidegate/bin/python -m compileall -q .
ENV PATH=/opt/tidegate/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["tidegate", "--help"]
