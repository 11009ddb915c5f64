import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from supervisor.options import ServerOptions  # type: ignore[import-untyped]

from liftloop.settings import Settings
from liftloop.stack.layout import Credentials, Layout, StackError
from liftloop.stack.parts import embedded_parts
from liftloop.stack.supervisor import Supervisor, config_text


def text_for(settings: Settings, project: Path = Path("/srv/project")) -> str:
    layout = Layout.of(settings, project)
    return config_text(embedded_parts(settings, layout, Credentials()), layout)


def test_supervisor_itself_reads_back_what_was_meant(tmp_path_factory: pytest.TempPathFactory) -> None:
    project = tmp_path_factory.mktemp("short")
    settings = Settings(home=project / "a home")
    layout = Layout.of(settings, project)
    layout.create()
    parts = embedded_parts(settings, layout, Credentials())
    layout.config_file.write_text(config_text(parts, layout))

    options = ServerOptions()
    options.realize(["-c", str(layout.config_file)])

    programs = {group.name: group.process_configs[0] for group in options.process_group_configs}
    assert list(programs) == [part.name for part in parts]
    for part in parts:
        read = programs[part.name]
        assert shlex.split(read.command) == list(part.command)
        assert read.environment == dict(part.environment)
        assert read.directory == str(project)
        assert (read.stopwaitsecs, read.killasgroup) == (part.stop_limit_seconds, True)
        assert read.stdout_logfile == str(layout.log_file(part.name))


def test_worker_stops_before_what_it_talks_to() -> None:
    parts = embedded_parts(Settings(), Layout.of(Settings()), Credentials())
    priority = {part.name: part.priority for part in parts}
    assert priority["worker"] > max(priority["object-store"], priority["prefect-server"])


def test_the_same_settings_give_the_same_text() -> None:
    settings, credentials, layout = Settings(), Credentials(), Layout.of(Settings())
    one, two = (config_text(embedded_parts(settings, layout, credentials), layout) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("name", ["100%", 'a"b', "a;b", "a#b", "it's"])
def test_a_path_that_the_format_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(StackError, match="move to a plainer path"):
        text_for(Settings(), Path("/srv") / name)


def test_a_password_that_the_format_cannot_carry_is_refused_and_not_shown() -> None:
    with pytest.raises(StackError, match=r"AUTH_STRING of the prefect-server has '%' in it") as error:
        text_for(Settings(prefect_auth=SecretStr("me:100%mine")))
    assert "mine" not in str(error.value)


def test_stopping_what_does_not_run_is_fine(tmp_path: Path) -> None:
    supervisor = Supervisor(Layout(tmp_path, tmp_path))
    supervisor.stop()
    assert supervisor.members() == []
    assert supervisor.processes() == {}


def test_orphans_are_ended_even_if_they_resist_and_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("liftloop.stack.supervisor._END_LIMIT_SECONDS", 0.5)
    supervisor = Supervisor(Layout(tmp_path, tmp_path))
    resist = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"

    def start(socket: Path) -> subprocess.Popen[bytes]:
        mark = {"SUPERVISOR_SERVER_URL": f"unix://{socket}"}
        process = subprocess.Popen([sys.executable, "-c", resist], env=os.environ | mark, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    with start(supervisor.layout.socket) as ours, start(tmp_path / "other.sock") as other:
        try:
            assert [process.pid for process in supervisor.members()] == [ours.pid]
            supervisor.stop()
            assert ours.wait() == -signal.SIGKILL
            assert other.poll() is None
        finally:
            other.kill()
