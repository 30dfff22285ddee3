"""The operator's settings, read from the environment once. Nothing else reads the environment."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Privilege = Literal[
    "serviceAccountName", "automountServiceAccountToken", "nodeName", "hostNetwork", "hostPID", "hostIPC",
    "hostUsers", "hostPath", "hostPorts", "probeHosts", "privileged", "allowPrivilegeEscalation",
    "capabilities", "runAsRoot", "volumes", "securityContext",
]  # fmt: skip
"""What an administrator may allow in spec.podTemplate. probeHosts: probes and hooks that name a host;
volumes: types that the restricted Pod Security level has not; securityContext: what no other name is for."""


class Settings(BaseSettings):
    """Settings of the operator process. Each field is the environment variable of its name in capitals."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    runtime_image: str = Field(
        default="embedding-runtime:0.1.0",
        min_length=1,
        description="Image of the serving pods and prefetch Jobs; -cpu or -cuda is appended to it.",
    )
    runtime_image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="imagePullPolicy of the pods that the operator makes."
    )
    image_volumes: Literal["auto", "true", "false"] = Field(
        default="auto",
        description="Whether pods can mount images (feature gate ImageVolume), for models in images; auto: "
        "from Kubernetes 1.35 on. Where not, their files are copied into a claim.",
    )
    hf_endpoint: str = Field(
        default="", description="Address of a hub mirror, handed to prefetch Jobs; empty: the public hub."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="json: one object per line; text: for people."
    )
    reconcile_workers: int = Field(
        default=4, ge=1, le=64, description="Resources that are worked on at the same time."
    )
    max_concurrent_prefetches: int = Field(
        default=4, ge=1, le=1000, description="Models that are fetched at the same time, by a Job each."
    )
    pod_template_allow: Annotated[tuple[Privilege, ...], NoDecode] = Field(
        default=(),
        description="What spec.podTemplate may say beyond what is harmless, separated by commas: "
        "hostPath, hostNetwork, ... (docs/operations.md).",
    )
    resync_seconds: float = Field(
        default=300,
        ge=10,
        description="Every resource is compared with the API server's own view this often.",
    )
    health_port: int = Field(default=8080, ge=1, le=65535, description="Port of GET /healthz.")
    metrics_port: int = Field(default=9090, ge=1, le=65535, description="Port of GET /metrics.")

    @field_validator("pod_template_allow", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(name.strip() for name in names if name.strip())
