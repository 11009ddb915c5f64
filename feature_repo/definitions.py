"""All that Feast knows of us: entities, one view per source and key, one service per source, from `contracts/`."""

from liftloop.contract.contract import declared_sources, load_contract
from liftloop.features.feast_repo import feature_objects
from liftloop.settings import load_settings

_contracts = [load_contract(source) for source in declared_sources()]

# Feast takes what it finds under a name of its own in this module.
globals().update({item.name: item for item in feature_objects(_contracts, load_settings().bucket)})
