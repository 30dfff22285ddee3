"""A hub of a case's own, in its namespace: a program of the standard library that listens on port 8080."""

from __future__ import annotations

from e2e.cases.kubectl import Object


def hub(name: str, image: str, program: str) -> tuple[Object, Object]:
    """Return the pod that runs the program, and the Service in front of it: http://<name>."""
    container = {
        "name": "hub",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", program],
    }
    metadata = {"name": name, "labels": {"app": name}}
    return (
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )
