"""The project is found from any of its folders, or where `LIFTLOOP_PROJECT` says."""

from pathlib import Path

import pytest

from liftloop.contract.loading import declared_sources
from liftloop.project import ProjectError, find_project
from liftloop.settings import load_settings


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "shop.yaml").touch()
    (tmp_path / "flows" / "deep").mkdir(parents=True)
    (tmp_path / ".env").write_text("LIFTLOOP_BUCKET=ads\n")
    return tmp_path


def test_a_subfolder_belongs_to_the_project_above_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "flows" / "deep")
    assert find_project().root == project
    assert declared_sources() == ["shop"]
    settings = load_settings()
    assert (settings.home, settings.bucket) == (project / ".liftloop", "ads")


@pytest.mark.parametrize("form", ["absolute", "relative"])
def test_the_variable_names_the_project(
    project: Path, form: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    named = str(project) if form == "absolute" else str(Path("..") / project.relative_to(elsewhere.parent))
    monkeypatch.setenv("LIFTLOOP_PROJECT", named)
    assert find_project().root == project
    assert load_settings().home == project / ".liftloop"


def test_a_variable_that_names_no_project_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFTLOOP_PROJECT", str(tmp_path))
    with pytest.raises(ProjectError, match=r"LIFTLOOP_PROJECT=.* has no folder contracts/"):
        find_project()


def test_outside_of_any_project_it_is_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_project().root == tmp_path


def test_a_relative_home_lies_in_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFTLOOP_HOME", "state")
    monkeypatch.chdir(project / "flows")
    assert load_settings().home == project / "state"
