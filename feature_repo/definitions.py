"""All that Feast knows of us: entities, one view per source and key, one service per source, from `contracts/`."""

from liftloop.contract.contract import CONTRACTS_FOLDER, declared_sources, load_contract
from liftloop.features.feast_cli import project_root, project_settings
from liftloop.features.feast_repo import feature_objects

_folder = project_root() / CONTRACTS_FOLDER
_contracts = [load_contract(source, _folder) for source in declared_sources(_folder)]

# Feast takes what it finds under a name of its own in this module.
globals().update({item.name: item for item in feature_objects(_contracts, project_settings().bucket)})
