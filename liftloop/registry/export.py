"""Export of a version as a self-contained folder: MLflow's `MLmodel`, the blobs, their hashes, the model card.

The format is "MLflow Models: storage format". Its flavor python_function names a module that loads the folder, so
nothing is pickled, and MLflow is not a dependency.
"""

import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import yaml

from liftloop.errors import UserError
from liftloop.registry.versions import ModelVersion, verify_blobs
from liftloop.storage.store import Store

LOADER = "liftloop.registry.mlflow"
DATA_FOLDER = "data"
BLOB_FILES = ("booster.ubj", "spec.json", "conversion-booster.ubj", "conversion-spec.json")  # in the order of blobs
VERSION_FILE = "version.json"


class ExportError(UserError):
    """The folder cannot be written; the message says why."""


def export(store: Store, version: ModelVersion, folder: Path) -> list[Path]:
    """Write a version into a new or empty folder; returns the files.

    Raises:
        ExportError: the folder is not empty, is a file, or cannot be written.
        RegistryError: a blob is missing or changed.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is not an empty folder: name another, or empty it")
    blobs = verify_blobs(store, version)
    files = {
        "MLmodel": yaml.safe_dump(_mlmodel(version), sort_keys=False).encode(),
        "requirements.txt": "".join(f"{name}=={installed(name)}\n" for name in ("liftloop", "xgboost")).encode(),
        **{f"{DATA_FOLDER}/{name}": blob for name, blob in zip(BLOB_FILES, blobs, strict=False)},
        f"{DATA_FOLDER}/{VERSION_FILE}": version.model_dump_json(indent=1).encode(),
    }
    if version.card is not None:
        files["card.html"] = store.get(version.card.key)
    try:
        (folder / DATA_FOLDER).mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            (folder / name).write_bytes(body)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error}") from None
    return [folder / name for name in files]


def _mlmodel(version: ModelVersion) -> dict[str, Any]:
    python = ".".join(str(part) for part in sys.version_info[:3])
    flavor = {"loader_module": LOADER, "data": DATA_FOLDER, "python_version": python, "env": None}
    return {
        "flavors": {"python_function": flavor},
        "model_uuid": version.version,
        "utc_time_created": f"{version.created_at:%Y-%m-%d %H:%M:%S.%f}",
        "metadata": {
            "source": version.source,
            "reward": version.reward,
            "feature_service": version.feature_service,
            "code_revision": version.code_revision,
        },
    }
