"""Every reason that a picture can be refused for, and that a map, caption or cached value can be null for."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "not_an_image": "no picture in a format that is read",
    "truncated": "damaged, or it ends early",
    "unsupported_mode": "its values have no known meaning, such as HDR, or 16 bits whose white is not known",
    "too_many_pixels": "more than `--max-megapixels`, by its header",
    "too_many_bytes": "more than `--max-megabytes`; a download ends there",
    "too_small": "a side below `--min-side`",
    "missing": "gone since it was listed; of a map or label: the picture has none",
    "unreadable": "the file cannot be read, or its name is not UTF-8",
    "bad_name": "its name in an archive or table leads out of the corpus",
    "duplicate": "an earlier member of its sample in a tar has this name",
    "changed": "its size, or what a store says of it, is not what was listed",
    "timeout": "a download did not end in time",
    "http_error": "a server answered with an error, or not at all",
    "too_many_redirects": "a download was redirected more than 5 times",
    "refused_address": "no http or https URL of a public host",
    "opted_out": "its server says that it is not for training",
    "out_of_memory": "decoding it ran out of memory",
    "size_mismatch": "an imported map or label has not its picture's shape",
    "wrong_kind": "an imported map is not what its condition is: its channels, bits or values",
    "ambiguous": "several labels may be the picture's",
    "unlabelled": "people are there, but none with key points",
    "too_many_people": "more people than a pose can store",
    "bad_caption": "its caption's file cannot be read",
    "failed": "the annotator raised an error, which stands beside it",
    "killed_worker": "the row ended its process twice; the other rows of its shard went on",
}
