# One image for all processes; the Procfile says how each is started.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    LOG_FORMAT=json

RUN useradd --system --create-home --home-dir /app provisioning
WORKDIR /app

COPY . /src
RUN pip install --no-cache-dir --disable-pip-version-check '/src[snowflake]' \
    && cp /src/Procfile /src/docker-entrypoint.sh /app/ \
    && rm -rf /src

USER provisioning
EXPOSE 8000
ENTRYPOINT ["sh", "/app/docker-entrypoint.sh"]
CMD ["web"]
