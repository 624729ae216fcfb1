"""How jobs run: shards, rows, Beam runners, the job process, progress."""
