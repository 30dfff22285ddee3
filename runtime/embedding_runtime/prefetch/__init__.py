"""`prefetch`: fetch models into the cache, prove that they load and run, and report.

`job.py` is the operator's contract: one model, named by the environment. `command.py` is for people and
scripts: any number of models. Both fetch through `attempts.py` and prove through `proof.py`.
"""
