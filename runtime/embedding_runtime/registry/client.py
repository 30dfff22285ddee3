"""The hub client's library, for the modules that speak HTTP; they import it from here.

huggingface_hub reads its environment when it is imported, so that is done here, after telemetry (which also
asks the hub for a list of no use here) and the Xet protocol (no progress, no plain proxies) are switched off.
"""

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"
if not os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT"):
    os.environ.pop("HF_HUB_DOWNLOAD_TIMEOUT", None)  # an empty one would end the import

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

__all__ = ["HfApi", "build_hf_headers", "constants", "get_session", "hf_hub_url", "hf_raise_for_status"]
