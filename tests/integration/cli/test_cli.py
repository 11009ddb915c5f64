"""The command as a user types it, on a real object store."""

import os
import re
import subprocess
import time
from pathlib import Path
from uuid import uuid4

import pytest
from lib.model_versions import put_version
from lib.projects import REPOSITORY

from liftloop.provenance.lineage import verify
from liftloop.registry.aliases import aliases
from liftloop.registry.promotion import promote, read_audit
from liftloop.registry.registry import Registry
from liftloop.settings import Settings
from liftloop.stack.parts import SCRIPTS
from liftloop.storage.keys import audit_key, champion_key
from liftloop.storage.runs import read_manifests, recorded
from liftloop.storage.store import Store


def liftloop(settings: Settings, *arguments: str, project: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    environment = os.environ | settings.as_environment()
    return subprocess.run(
        [SCRIPTS / "liftloop", *arguments], env=environment, cwd=project, capture_output=True, text=True
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the rules and one contract, of a source that must be served a second after it landed."""
    source = f"s{uuid4().hex[:8]}"
    contract = (REPOSITORY / "contracts" / "simulated.yaml").read_text()
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / f"{source}.yaml").write_text(
        contract.replace("source: simulated", f"source: {source}\nfreshness: 1s")
    )
    (tmp_path / "expectations").symlink_to(REPOSITORY / "expectations")
    return tmp_path


@pytest.fixture
def source(project: Path) -> str:
    (contract,) = (project / "contracts").iterdir()
    return contract.stem


def promote_two(store: Store, source: str) -> None:
    """Version `bad` is champion, and before it `good` was."""
    holder = None
    for name in ("good", "bad"):
        put_version(store, source, name)
        holder = promote(Registry(store, source), name, "better", holder.etag if holder else None)


def test_land_mirrors_a_folder(object_store: Settings, tmp_path: Path) -> None:
    (tmp_path / "2026-01-05").mkdir()
    (tmp_path / "2026-01-05" / "part-900.parquet").write_bytes(b"rows")
    done = liftloop(object_store, "land", "simulated", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "landed 1 file of simulated\n")
    assert Store(object_store).get("landing/simulated/2026-01-05/part-900.parquet") == b"rows"


def test_nothing_is_held_before_anything_landed(object_store: Settings) -> None:
    done = liftloop(object_store, "held", "open_bandit")
    assert done.returncode == 0
    assert done.stdout.split() == ["file", "status", "error", "reasons"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("land", "nowhere", "."),
            f"source 'nowhere' is not declared in {REPOSITORY}/contracts/; declared: ['open_bandit', 'simulated']",
        ),
        (("show", "zzz"), "0 runs on record begin with 'zzz'"),
        (("lineage", "no/such/object"), "no run on record wrote or read 'no/such/object'"),
    ],
)
def test_what_a_user_can_mend_is_one_line(object_store: Settings, arguments: tuple[str, ...], words: str) -> None:
    done = liftloop(object_store, *arguments)
    assert done.returncode == 1
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_store_that_does_not_answer_is_one_line(object_store: Settings) -> None:
    nowhere = object_store.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"})
    done = liftloop(nowhere, "runs")
    assert done.returncode == 1
    assert "`liftloop up` starts it" in done.stderr
    assert "Traceback" not in done.stderr


def test_rollback_restores_the_champion_before_and_is_on_record(
    object_store: Settings, project: Path, source: str
) -> None:
    store = Store(object_store)
    promote_two(store, source)
    done = liftloop(object_store, "rollback", source, "--reason", "clicks fell", project=project)
    assert (done.returncode, done.stdout) == (0, f"the champion of {source} is good, no longer bad\n"), done.stderr
    (run,) = [run for run in read_manifests(store, "rollback") if run.source == source]
    assert (run.status, run.parameters) == ("completed", {"reason": "clicks fell", "to": None})
    entry = read_audit(Registry(store, source))[-1].pointer
    assert (entry.version, entry.reason, entry.run_id) == ("good", "clicks fell", run.run_id)
    assert {ref.key for ref in run.outputs} == {champion_key(source), audit_key(source, 3)}
    assert not [damage for damage in verify(store)[1] if source in damage.ref.key]

    done = liftloop(object_store, "rollback", source, "--reason", "still bad", project=project)
    assert done.returncode == 1
    assert f"there is no champion of {source} before good to roll back to" in " ".join(done.stderr.split())


def test_models_lists_versions_with_their_aliases(object_store: Settings, project: Path, source: str) -> None:
    store = Store(object_store)
    promote_two(store, source)
    put_version(store, source, "new")
    done = liftloop(object_store, "promote", source, "new", "--challenger", "--override-gate", "--reason", "try it",
                    project=project)  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["the gate on new: not judged", f"the challenger of {source} is new"],
    ), done.stderr
    done = liftloop(object_store, "models", source, project=project)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "version alias created (UTC) reward validation log loss gate rounds KiB"
    assert [line.split(" 20")[0] for line in lines[1:]] == ["good previous", "bad champion", "new challenger"]
    assert all("click not judged" in line for line in lines[1:])


def test_promote_by_hand_is_on_record_with_what_it_overrides(
    object_store: Settings, project: Path, source: str
) -> None:
    store = Store(object_store)
    promote_two(store, source)
    done = liftloop(object_store, "promote", source, "previous", "--reason", "it was better", project=project)
    assert done.returncode == 1
    assert "the gate has not judged it" in " ".join(done.stderr.split())
    assert "--override-gate" in done.stderr
    wanted = ("promote", source, "previous", "--reason", "it was better", "--override-gate")
    done = liftloop(object_store, *wanted, project=project)
    assert done.returncode == 0, done.stderr
    assert f"the champion of {source} is good" in done.stdout
    failed, run = [run for run in read_manifests(store, "promote") if run.source == source]
    assert (failed.status, run.status) == ("failed", "completed")
    assert run.parameters["override_gate"] is True
    entry = read_audit(Registry(store, source))[-1].pointer
    assert (entry.version, entry.reason, entry.overrides) == ("good", "it was better", "not judged")
    assert entry.run_id == run.run_id
    assert {ref.key for ref in run.outputs} == {champion_key(source), audit_key(source, 3)}
    assert aliases(Registry(store, source)) == {"champion": "good", "previous": "bad"}


def test_export_and_compare_take_aliases(object_store: Settings, project: Path, source: str, tmp_path: Path) -> None:
    store = Store(object_store)
    promote_two(store, source)
    folder = tmp_path / "model"
    done = liftloop(object_store, "export", source, "champion", str(folder), project=project)
    assert (done.returncode, done.stdout) == (0, f"wrote 5 files into {folder}\n"), done.stderr
    assert (folder / "data" / "booster.ubj").read_bytes() == f"{source} bad trees".encode()
    done = liftloop(object_store, "compare", source, "champion", "previous", project=project)
    assert done.returncode == 1
    assert "bad cannot be loaded: its record names other blobs" in " ".join(done.stderr.split())
    done = liftloop(object_store, "compare", source, "champion", "challenger", project=project)
    assert f"{source} has no challenger now; `liftloop models {source}` lists" in " ".join(done.stderr.split())


def test_status_says_what_waits_and_by_how_much_the_objective_is_missed(
    object_store: Settings, project: Path, source: str
) -> None:
    store = Store(object_store)
    promote_two(store, source)
    with pytest.raises(ZeroDivisionError), recorded(store, never := f"f{source}", "1", source, {}):
        _ = 1 / 0
    done = liftloop(object_store, "status", project=project)
    assert f"{source} 0 0 0 bad for" in " ".join(done.stdout.split())
    assert never not in done.stdout  # a flow that never succeeded has no column
    assert "freshness" not in done.stdout

    store.put(f"landing/{source}/2026-01-05/part-0.parquet", b"rows")
    time.sleep(3)
    done = liftloop(object_store, "status", project=project)
    words = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert f"{source} 1 " in words
    assert re.search(rf"{source}: landing/{source}/2026-01-05/part-0.parquet has waited in landing for \d+ s", words)
    assert re.search(r"\d+ s longer than the contract's freshness of 1 s", words)


def test_status_shows_the_parts_where_the_store_is_dead(object_store: Settings, project: Path) -> None:
    nowhere = object_store.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"})
    done = liftloop(nowhere, "status", project=project)
    words = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert "object-store external http://127.0.0.1:1" in words
    assert "the state of the sources is unknown: " in words
    assert "worker is stopped" in words
    assert "free" in words
    assert "Traceback" not in done.stderr


def test_status_shows_the_parts_where_a_contract_is_broken(object_store: Settings, project: Path, source: str) -> None:
    file = project / "contracts" / f"{source}.yaml"
    file.write_text(file.read_text().replace("freshness: 1s", "freshness: soon"))
    done = liftloop(object_store, "status", project=project)
    words = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert "object-store external" in words
    assert f"contracts/{source}.yaml: freshness: 'soon'" in words


def test_a_value_that_may_be_a_secret_is_not_shown(object_store: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFTLOOP_S3_SECRET_KEY", "hunter2hunter2")
    done = liftloop(object_store, "status")
    assert done.returncode == 1
    assert "LIFTLOOP_S3_SECRET_KEY=… is not a setting" in " ".join(done.stderr.split())
    assert "hunter2" not in done.stdout + done.stderr


def test_an_unknown_setting_is_named(object_store: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFTLOOP_COLOUR", "red")
    done = liftloop(object_store, "status")
    assert done.returncode == 1
    assert "LIFTLOOP_COLOUR='red' is not a setting" in " ".join(done.stderr.split())
