"""Classes that `feature_store.yaml` names instead of addresses, so that Feast's own commands use our settings."""

from typing import Any

from feast import RepoConfig
from feast.data_source import DataSource
from feast.infra.passthrough_provider import PassthroughProvider
from pydantic import StrictStr, model_validator
from sqlalchemy import URL, CreateEnginePlugin, make_url
from sqlalchemy.dialects import plugins

from liftloop.feast_plugins.offline_store import AsofDuckDBOfflineStore, AsofDuckDBOfflineStoreConfig
from liftloop.features.feast_repo import offline_store_options, repo_config
from liftloop.settings import load_settings


class SettingsOfflineStoreConfig(AsofDuckDBOfflineStoreConfig):
    type: StrictStr = "liftloop.features.feast_cli.SettingsOfflineStore"

    @model_validator(mode="before")
    @classmethod
    def _from_settings(cls, options: Any) -> Any:
        return offline_store_options(load_settings()) | options


class SettingsOfflineStore(AsofDuckDBOfflineStore):
    """Reads from the object store in our settings."""


class SettingsProvider(PassthroughProvider):
    """Writes to the online store in our settings."""

    def __init__(self, config: RepoConfig) -> None:
        config.online_config = repo_config(load_settings()).online_config
        config._online_store = None  # it may have created the default one
        super().__init__(config)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Do nothing: Feast's own check asks AWS for the bucket's region, and a new source has no tables yet."""


class RegistryAddress(CreateEnginePlugin):
    """SQLAlchemy's plugin `liftloop`: an engine on the registry in our settings, regardless of its URL."""

    def update_url(self, url: URL) -> URL:  # noqa: ARG002
        return make_url(repo_config(load_settings()).registry.path)


plugins.register("liftloop", __name__, "RegistryAddress")
