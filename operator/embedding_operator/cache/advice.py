"""What to do about a prefetch that failed or cannot start, in terms of the spec. Pure."""

from dataclasses import replace

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.cache.prefetch import UNBOUND, UNMOUNTED
from embedding_operator.facts import Failure
from embedding_operator.health import pods
from embedding_operator.health.pods import Problem
from embedding_operator.source import UrlSource

HUB = "spec.model.source.hub"
URL = "spec.model.source.url"
PVC = "spec.model.source.pvc"
OCI = "spec.model.source.oci"


def what(em: EmbeddingModel) -> str:
    """Returns what is fetched or looked at, for a message."""
    if em.source.pvc:
        return f"{em.source.id} in folder {em.source.pvc.path or '/'} of claim {em.source.pvc.claim}"
    if em.source.url:
        return f"{em.source.id} from {em.source.url.url}"
    if em.source.oci:
        return f"{em.source.id} in folder /{em.source.oci.path} of image {em.source.oci.image}"
    return f"{em.source.id}@{em.source.revision}"


def words(em: EmbeddingModel, failure: Failure) -> str:
    """Returns what happened and what to do, in whole sentences."""
    found = of(em, failure.reason)
    if found is None:
        return failure.message.rstrip(". ") + "."
    return f"{fact(failure.message)}. {found}"


def pending(em: EmbeddingModel, reason: str, message: str) -> tuple[str, str]:
    """Returns reason and message; what the spec names and nobody made is told by its name."""
    token, bundle, way = em.source.way.token, em.source.way.ca_bundle, URL if em.source.url else HUB
    if reason == "CreateContainerConfigError" and token and token.name in message:
        what = f"Secret {token.name} with key {token.key}, which {way}.tokenSecretRef names"
        return "MissingSecret", f"the Job waits for {what}, in namespace {em.namespace}: {message}"
    if reason == UNMOUNTED and bundle and naming.CERTIFICATES_VOLUME in message:
        what = f"ConfigMap {bundle.name} with key {bundle.key}, which {way}.caBundleRef names"
        return "MissingConfigMap", f"the Job waits for {what}, in namespace {em.namespace}: {message}"
    if reason == UNBOUND:
        return reason, f"claim {naming.claim(em)} has no volume: {message.rstrip('. ')}. {_class(em)}"
    existing = em.existing_claim
    if reason == pods.UNSCHEDULABLE and existing and f'"{existing}" not found' in message:
        field = f"{PVC}.claimName" if em.source.pvc else "spec.cache.claimName"
        what = f"claim {existing}, which {field} names"
        return "MissingClaim", f"the Job waits for {what}, in namespace {em.namespace}: {message}"
    return reason, message


def _class(em: EmbeddingModel) -> str:
    field = "spec.cache.storageClassName"
    if em.cache.storage_class:
        return f"Check class {em.cache.storage_class}, which {field} names, and its provisioner"
    return f"Name a class with a provisioner in {field}, or give the cluster a default class"


def own(em: EmbeddingModel, problem: Problem) -> Problem:
    """Returns the problem of a pod with what to do, where it fetches for itself and that has failed."""
    found = of(em, problem.reason) if em.cache.per_replica else None
    return replace(problem, message=f"{fact(problem.message)}. {found}") if found else problem


def fact(message: str) -> str:
    """Returns what happened, without what the runtime advises after it in terms of its own variables."""
    return message.split("; ", 1)[0].rstrip(". ")


def of(em: EmbeddingModel, reason: str) -> str | None:
    """Returns what to do about a failure in terms of the spec, None where its own words have to do."""
    if reason == "TaskMismatch":
        return "Correct spec.model.task, or write auto."
    if em.source.pvc:
        return _about_claim(reason)
    if em.source.oci:
        return _about_image(em.source.oci.image, reason) or _about_volume(em, reason)
    about = _about_archive(em, em.source.url, reason) if em.source.url else _about_hub(em, reason)
    return about or _about_volume(em, reason)


def _about_claim(reason: str) -> str | None:
    match reason:
        case "FolderNotFound":
            return f"Correct {PVC}.path, a folder from the claim's root, or put the model's files there."
        case "FolderUnreadable":
            return "Make folder and files readable to user or group 65532, or to everybody."
        case "UnsupportedModel":
            return f"Name the folder of the model's files in {PVC}.path, or one of them in spec.model.file."
        case _:
            return None


def _about_image(image: str, reason: str) -> str | None:
    match reason:
        case "FolderNotFound":
            return f"Correct {OCI}.path, a folder from the root of image {image}."
        case "FolderUnreadable":
            return f"Make folder and files in image {image} readable to everybody."
        case "UnsupportedModel":
            return f"Name the folder of the model's files in {OCI}.path, or one of them in spec.model.file."
        case "NoCopyProgram":
            return (
                f"Put a cp into image {image}, such as busybox's: where pods cannot mount images, which "
                "Kubernetes lets them from 1.35 on, the image copies its files itself."
            )
        case _:
            return None


def _about_hub(em: EmbeddingModel, reason: str) -> str | None:
    token = em.source.hub.token
    secret = f"Secret {token.name}, key {token.key} ({HUB}.tokenSecretRef)" if token else ""
    match reason:
        case "ModelNotFound" if token:
            return f"Correct spec.model.id, or put a token that may see the model into {secret}."
        case "ModelNotFound":
            return (
                f"Correct spec.model.id; a private model needs {HUB}.tokenSecretRef, which names a Secret "
                "with a token that may see it."
            )
        case "RevisionNotFound":
            return "Correct spec.model.revision: a branch, a tag or a commit of that repository."
        case "AccessDenied" if token:
            return (
                f"Put a valid token into {secret}; for a gated model accept its conditions at the hub with "
                "the account that the token belongs to."
            )
        case "AccessDenied":
            return (
                f"The model is private or gated: name a Secret with a token that may read it in "
                f"{HUB}.tokenSecretRef."
            )
        case "RateLimited":
            higher = "" if token else f"a token has a higher limit ({HUB}.tokenSecretRef), "
            return f"Nothing has to be done; {higher}a mirror has a limit of its own ({HUB}.endpoint)."
        case "HubUnreachable":
            return f"{_way(em)}; the network policies of namespace {em.namespace} must let the Job's pod out."
        case "UnsupportedModel":
            return "Choose a repository with ONNX weights, or name the file in spec.model.file."
        case _:
            return None


def _about_archive(em: EmbeddingModel, url: UrlSource, reason: str) -> str | None:
    token = url.token
    secret = f"Secret {token.name}, key {token.key} ({URL}.tokenSecretRef)" if token else ""
    match reason:
        case "DigestMismatch":
            return (
                f"Correct {URL}.sha256, as `sha256sum` prints it, or have the right file at {URL}.url; "
                "a proxy on the way may have answered in its place."
            )
        case "UnsupportedArchive":
            return f"Make a tar, tar.gz or zip of plain files, and write its SHA-256 into {URL}.sha256."
        case "UnsupportedModel":
            return (
                f"Name the folder of the model's files in the archive in {URL}.path, or one of them in "
                "spec.model.file."
            )
        case "ModelNotFound":
            return f"Correct {URL}.url: the archive's own address."
        case "AccessDenied" if token:
            return f"Put a token that may read it into {secret}."
        case "AccessDenied":
            return f"Name a Secret with a token that may read it in {URL}.tokenSecretRef."
        case "RateLimited":
            return "Nothing has to be done."
        case "HubUnreachable":
            proxy = f"{URL}.proxy ({url.proxy.url})" if url.proxy else f"{URL}.proxy where there is one"
            return (
                f"Check {URL}.url, {proxy}, and {URL}.caBundleRef for its certificate's authority; the "
                f"network policies of namespace {em.namespace} must let the Job's pod out."
            )
        case _:
            return None


def _about_volume(em: EmbeddingModel, reason: str) -> str | None:
    room = " An archive and what it unpacks to need room together." if em.source.url else ""
    match reason:
        case "CacheUnwritable" if em.cache.per_replica:
            return (
                "Name a class in spec.cache.storageClassName that honours fsGroup, or none for a place on "
                "the node's disk."
            )
        case "CacheUnwritable":
            return (
                f"Give claim {naming.claim(em)} a volume that the pods' group, 65532, can write: one whose "
                "storage class honours fsGroup, or whose folder belongs to that group."
            )
        case "DiskFull" if em.cache.per_replica:
            limit = f"Write a larger spec.cache.size than {em.cache.size}" if em.cache.size else "Make room"
            return f"{limit}; the volumes of the Job and of the pods are on the disks of their nodes."
        case "DiskFull" if em.cache.existing:
            return f"Make claim {em.cache.existing} (spec.cache.claimName) larger, or name another one.{room}"
        case "DiskFull":
            than = f" than {em.cache.size}" if em.cache.size else ""
            return (
                f"Write a larger spec.cache.size{than}: it is tried again when the claim has "
                f"grown. Where its storage class cannot grow claims, delete claim {naming.claim(em)} then."
                f"{room}"
            )
        case _:
            return None


def _way(em: EmbeddingModel) -> str:
    """Returns which fields make the way to the hub: those that are set, and those that are mostly missing."""
    hub = em.source.hub
    own = f"{HUB}.endpoint" if hub.endpoint else f"the operator's HF_ENDPOINT ({HUB}.endpoint overrides it)"
    proxy = f"{HUB}.proxy ({hub.proxy.url})" if hub.proxy else f"{HUB}.proxy where there is one"
    bundle = "its certificate's authority" if hub.ca_bundle else "a certificate of an authority of your own"
    return f"Check {own}, {proxy}, and {HUB}.caBundleRef for {bundle}"
