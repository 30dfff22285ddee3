"""What the API server writes down about requests: all of the operator's account, nothing of anybody else.

The file is small, and read with kubectl alone: a node's kubelet serves what lies in the node's /var/log.
"""

from __future__ import annotations

import json
from typing import Any

ACCOUNT = "system:serviceaccount:embedding-operator-system:embedding-operator"
FOLDER, POLICY_FILE = "/etc/kubernetes/audit", "policy.json"
LOG_FOLDER, LOG_FILE = "/var/log/kubernetes", "audit.log"
MEGABYTES = 100  # a long way for one account; older entries are then in a second file


def policy() -> str:
    """Return the audit policy: who, when, what and how it ended, but nothing of what was sent."""
    rules = [{"level": "Metadata", "users": [ACCOUNT]}, {"level": "None"}]
    written = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
    return json.dumps({**written, "rules": rules}, indent=1)  # JSON is YAML


def kubeadm_patch() -> dict[str, Any]:
    """Return the part of kubeadm's ClusterConfiguration that makes the API server write the log."""
    arguments = {
        "audit-policy-file": f"{FOLDER}/{POLICY_FILE}",
        "audit-log-path": f"{LOG_FOLDER}/{LOG_FILE}",
        "audit-log-maxsize": str(MEGABYTES),
        "audit-log-maxbackup": "1",
    }
    return {
        "kind": "ClusterConfiguration",
        "apiServer": {
            "extraArgs": arguments,
            "extraVolumes": [
                _volume("audit-policy", FOLDER, read_only=True),
                _volume("audit-log", LOG_FOLDER, read_only=False),
            ],
        },
    }


def _volume(name: str, path: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "name": name,
        "hostPath": path,
        "mountPath": path,
        "readOnly": read_only,
        "pathType": "DirectoryOrCreate",
    }
