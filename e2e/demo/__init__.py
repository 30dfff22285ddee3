"""The demonstration: from a cluster with the operator to vectors and scores that a person can judge.

`__main__` runs it, `watch` waits for the models, `client.py` is the application that runs in a pod.
"""
