"""spec.model as typed values: which model, and where its files come from. No decisions."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_Body = Mapping[str, Any]
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class KeyRef:
    """One entry of a Secret or a ConfigMap in the resource's namespace."""

    name: str
    key: str


@dataclass(frozen=True)
class Proxy:
    """The HTTP proxy between the Job and where it fetches from."""

    url: str
    no_proxy: tuple[str, ...]


@dataclass(frozen=True)
class HubSource:
    """spec.model.source.hub: how the Job gets to the hub. token is in a Secret, ca_bundle in a ConfigMap."""

    endpoint: str | None
    token: KeyRef | None
    ca_bundle: KeyRef | None
    proxy: Proxy | None


@dataclass(frozen=True)
class ClaimSource:
    """spec.model.source.pvc: a folder on a claim that is somebody else's, as a path from the claim's root."""

    claim: str
    path: str


@dataclass(frozen=True)
class ImageSource:
    """spec.model.source.oci: a folder of an image, as a path from its root.

    is_volume: pods mount the image itself; else its files are copied into a claim once. pull_policy is None
    where the reference decides.
    """

    image: str
    path: str
    pull_policy: str | None
    is_volume: bool


@dataclass(frozen=True)
class UrlSource:
    """spec.model.source.url: an archive at an address, and the model's folder in it.

    token is in a Secret, ca_bundle in a ConfigMap.
    """

    url: str
    sha256: str
    path: str
    token: KeyRef | None
    ca_bundle: KeyRef | None
    proxy: Proxy | None


@dataclass(frozen=True)
class Source:
    """spec.model: what to fetch, and from where: from pvc, url or oci where that is given, else from the hub.

    follows: the model moves on when the revision means another commit, which is asked for every
    check_interval seconds; commit is then what it means now, None while nobody knows (following.followed).
    options are what shapes vectors beside the files, as JSON in the runtime's names and sorted, so that equal
    options are equal text; empty where the repository's own files decide everything.
    """

    id: str
    revision: str
    task: str
    file: str | None
    hub: HubSource
    options: str
    pvc: ClaimSource | None
    url: UrlSource | None
    oci: ImageSource | None
    follows: bool
    check_interval: int
    commit: str | None = None

    @property
    def at(self) -> str:
        """What to fetch: the commit that a followed revision is at, else the revision itself."""
        return self.commit or self.revision

    @property
    def way(self) -> HubSource | UrlSource:
        """How the Job gets to where it fetches from."""
        return self.url or self.hub

    @property
    def is_mounted(self) -> bool:
        """Whether pods mount the files' image itself."""
        return self.oci is not None and self.oci.is_volume

    @property
    def is_copied(self) -> bool:
        """Whether the files are copied out of their image into a claim."""
        return self.oci is not None and not self.oci.is_volume

    @property
    def is_hub(self) -> bool:
        """Whether a model hub, or a mirror of it, is asked for the files."""
        return self.pvc is None and self.url is None and self.oci is None


def parse_source(model: _Body, *, image_volumes: bool) -> Source:
    """Returns the typed view of spec.model, which the API server has validated; defaults are repeated.

    image_volumes: pods can mount images.
    """
    source = model.get("source") or {}
    return Source(
        options=_options(model),
        id=model["id"],
        revision=model.get("revision", "main"),
        task=model.get("task", "auto"),
        file=model.get("file"),
        hub=_hub(source.get("hub") or {}),
        pvc=_pvc(source.get("pvc")),
        url=_url(source.get("url")),
        follows=model.get("revisionPolicy", "Pin") == "Follow",
        check_interval=_seconds(model.get("revisionCheckInterval", "1h")),
        oci=_oci(source.get("oci"), image_volumes),
    )


def origin(url: str) -> str:
    """Returns scheme, host and port of an address: whom a request goes to."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def key_ref(ref: _Body | None) -> KeyRef | None:
    """Returns the typed view of a reference, None where the spec has none."""
    return KeyRef(ref["name"], ref["key"]) if ref else None


def _hub(hub: _Body) -> HubSource:
    return HubSource(
        endpoint=hub.get("endpoint"),
        token=key_ref(hub.get("tokenSecretRef")),
        ca_bundle=key_ref(hub.get("caBundleRef")),
        proxy=_proxy(hub.get("proxy")),
    )


def _pvc(pvc: _Body | None) -> ClaimSource | None:
    return ClaimSource(pvc["claimName"], pvc.get("path", "")) if pvc else None


def _url(url: _Body | None) -> UrlSource | None:
    if not url:
        return None
    return UrlSource(
        url=url["url"],
        sha256=url["sha256"],
        path=url.get("path", ""),
        token=key_ref(url.get("tokenSecretRef")),
        ca_bundle=key_ref(url.get("caBundleRef")),
        proxy=_proxy(url.get("proxy")),
    )


def _oci(oci: _Body | None, image_volumes: bool) -> ImageSource | None:
    if oci is None:
        return None
    return ImageSource(oci["image"], oci.get("path", "models"), oci.get("pullPolicy"), image_volumes)


def _proxy(proxy: _Body | None) -> Proxy | None:
    return Proxy(proxy["url"], tuple(proxy.get("noProxy") or ())) if proxy else None


def _seconds(duration: str) -> int:
    """Returns a duration such as 1h30m in seconds."""
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([hms])", duration))


def _options(model: _Body) -> str:
    given = {
        "precision": model.get("precision", "auto"),
        "max_length": model.get("maxLength"),
        "pooling": model.get("pooling"),
        "normalize": model.get("normalize"),
        "prompts": model.get("prompts") or None,
    }
    said = {name: value for name, value in given.items() if value not in (None, "auto")}
    return json.dumps(said, sort_keys=True, separators=(",", ":")) if said else ""
