#!/usr/bin/env bash
# datasets 5.2.0 with pyarrow 25.0.1
#
# What: load_dataset("NAME", CONFIG) of a local folder with a card keys its cache by the folder's name and the patterns
#   and settings in the card. Neither the folder's whole path nor its files' times, sizes or contents are in the key. So
#   another folder of the same name and card, or the same folder after its files changed, gives the first one's rows.
# Seen: two folders dataset/ in two working directories, of values 1 and 2: the second loads as [1]. After the
#   first one's file is replaced by one of value 3, a new process still loads [1]. A description in the card's
#   config that differs keeps them apart.
# Guessed: the data files' fingerprint (path, time, size) is part of the key, as it is for load_dataset("parquet", ...).
#
# It matters for whoever writes dataset folders with one standard name: put a digest into the card.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==25.0.1
export HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
make() { # working directory, value, description
  mkdir -p "$folder/$1/dataset/table"
  "$folder/venv/bin/python" - "$folder/$1/dataset/table/0.parquet" "$2" <<'PY'
import sys

import pyarrow as pa
import pyarrow.parquet as pq

pq.write_table(pa.table({"x": [int(sys.argv[2])]}), sys.argv[1])
PY
  printf -- '---\nconfigs:\n- config_name: table\n%s  data_files: table/*.parquet\n---\n' "${3:+  description: $3
}" >"$folder/$1/dataset/README.md"
}
values() { (cd "$folder/$1" && "$folder/venv/bin/python" -c 'from datasets import load_dataset
print(load_dataset("dataset", "table", split="train")["x"][:])' 2>/dev/null); }
expect() { echo "$1: $2"; [ "$2" = "$3" ]; }
make a 1
make b 2
expect "first folder, value 1" "$(values a)" "[1]"
expect "another folder of that name, value 2" "$(values b)" "[1]"
make a 3
expect "the first folder, its file replaced, value 3" "$(values a)" "[1]"
make b 2 "another"
expect "the second, with a description of its own" "$(values b)" "[2]"
