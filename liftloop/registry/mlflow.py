"""Loader of exported versions for `mlflow.pyfunc.load_model(FOLDER).predict(rows)`. Does not import MLflow."""

from pathlib import Path

from liftloop.model.model import Model
from liftloop.registry.export import BLOB_FILES, VERSION_FILE
from liftloop.registry.versions import ModelVersion, RegistryError
from liftloop.storage.hashing import sha256_of
from liftloop.storage.store import ObjectRef


def _load_pyfunc(data_path: str) -> Model:
    """Called by MLflow: the model, its bytes checked against the version's record in the same folder.

    Raises:
        RegistryError: a file was changed since the export.
    """
    folder = Path(data_path)
    version = ModelVersion.model_validate_json((folder / VERSION_FILE).read_bytes())
    files = zip(BLOB_FILES, version.blobs, strict=False)  # the last two only of some versions
    return Model.from_blobs(*(_verified(folder / name, ref) for name, ref in files))


def _verified(file: Path, ref: ObjectRef) -> bytes:
    body = file.read_bytes()
    if sha256_of(body) != ref.sha256:
        raise RegistryError(f"{file} was changed: SHA-256 is not {ref.sha256}; export the version again")
    return body
