"""Everything that `feast apply` registers: entities, a view per source and key, and a service per source."""

from liftloop.contract.loading import declared_sources, load_contract
from liftloop.features.feast_repo import feature_objects
from liftloop.settings import load_settings

_contracts = [load_contract(source) for source in declared_sources()]

# Feast registers the objects that have a name in this module.
globals().update({item.name: item for item in feature_objects(_contracts, load_settings().bucket)})
