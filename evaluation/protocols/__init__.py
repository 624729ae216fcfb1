"""Protocols: how pictures are sampled, judged and measured so that a number can be laid beside a published one."""
