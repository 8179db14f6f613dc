"""Hugging Face's own client of the hub, for `msrnn-bench/tests/hub_python.rs`, which says what to run.

    pip install huggingface_hub==2.4.0 filelock==4.3.1

    python hub_client.py download ENDPOINT CACHE REPOSITORY FILE...   # fetches files into a cache
    python hub_client.py find CACHE REPOSITORY FILE...    # where they are, without a network
    python hub_client.py environment                      # what the environment says about the hub
    python hub_client.py hold LOCK                        # holds a lock until its input ends

Everything is printed as one line of JSON. The environment is read when huggingface_hub is imported, so
it is imported where it is needed.
"""

import json
import os
import sys


def download(endpoint, cache, repository, *files):
    os.environ["HF_ENDPOINT"] = endpoint
    from huggingface_hub import hf_hub_download

    return [hf_hub_download(repository, file, cache_dir=cache, token=False) for file in files]


def find(cache, repository, *files):
    os.environ["HF_HUB_OFFLINE"] = "1"
    from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

    cached = scan_cache_dir(cache)
    return {
        "snapshot": snapshot_download(repository, cache_dir=cache, local_files_only=True),
        "files": [hf_hub_download(repository, file, cache_dir=cache, local_files_only=True) for file in files],
        "scanned": sorted(file.file_name for repo in cached.repos for revision in repo.revisions for file in revision.files),
        "warnings": [str(warning) for warning in cached.warnings],
    }


def environment():
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    return {
        "cache": constants.HF_HUB_CACHE,
        "offline": constants.HF_HUB_OFFLINE,
        "authorization": build_hf_headers().get("authorization"),
    }


def hold(lock):
    from huggingface_hub.utils import WeakFileLock

    os.makedirs(os.path.dirname(lock), exist_ok=True)
    with WeakFileLock(lock):
        print("held", flush=True)
        sys.stdin.read()
    return "released"


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    commands = {"download": download, "find": find, "environment": environment, "hold": hold}
    print(json.dumps(commands[command](*arguments)))
