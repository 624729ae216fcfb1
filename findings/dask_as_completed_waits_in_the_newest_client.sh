#!/usr/bin/env bash
# dask and distributed 2026.8.0
#
# What: as_completed() of futures waits by the event loop of the newest client of the process, not by that of the client
#   that the futures belong to.
# Seen: two clients, each with an event loop of its own; "loop of its client: False, loop of the newest client: True",
#   and once the newest is closed: "loop of its client: True".
# Guessed: a future knows its client, and its result() waits by that, so as_completed() does.
#
# It matters where a process has two clusters: a loop that is stopped with its client never says that a future is done.
# Give loop=client.loop, or wait by the future's own result().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dask==2026.8.0 distributed==2026.8.0
cat >"$folder/loops.py" <<'PY'
from distributed import Client, LocalCluster, as_completed


def cluster():
    return LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)


if __name__ == "__main__":
    with cluster() as first, Client(first) as own:
        future = own.submit(sum, (1, 2))
        with cluster() as second, Client(second) as newest:
            assert own.loop is not newest.loop
            loop = as_completed([future]).loop
            print(f"loop of its client: {loop is own.loop}, loop of the newest client: {loop is newest.loop}")
        print(f"loop of its client: {as_completed([future]).loop is own.loop}")
PY
found=$("$folder/venv/bin/python" "$folder/loops.py" 2>/dev/null)
echo "$found"
[ "$found" = "$(printf 'loop of its client: False, loop of the newest client: True\nloop of its client: True')" ]
