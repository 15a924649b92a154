"""Data sets: where each is found, who may use it, and how to get it.

`data_set` is one set and its files; `catalogue` names those that the workloads here train on;
`folders` says where a set is looked for; `cache` keeps what is slow to make of one.
"""
