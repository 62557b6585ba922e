"""`crossbit serve`, `crossbit key` and `crossbit doctor`."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import FAILED, SERVING, AsJson, open_settings
from app.roles import Role
from app.show import note, show_json, show_table

cli = typer.Typer()


class Device(StrEnum):
    """What the doctor can measure."""

    CPU = "cpu"
    CUDA = "cuda"


@cli.command(rich_help_panel=SERVING)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind; CROSSBIT_HOST if left out.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; CROSSBIT_PORT if left out.")] = None,
) -> None:
    """Serve every index over HTTP until Ctrl-C."""
    from app.job_store import database_url
    from app.keys import KeysFileError, load_keys
    from app.main import create_app
    from app.serving import serve as run

    settings = open_settings()
    try:
        keys = load_keys(settings)
    except KeysFileError as error:
        raise typer.BadParameter(str(error), param_hint="CROSSBIT_KEYS_FILE") from error
    database_url(settings)  # says at once what is wrong with a file that should hold it
    run(
        lambda: create_app(settings),
        settings.host if host is None else host,
        settings.port if port is None else port,
        has_keys=bool(keys),
        settings=settings,
    )


@cli.command(rich_help_panel=SERVING)
def worker(
    check: Annotated[bool, typer.Option("--check", help="Only tell who works here; exit 1 if nobody does.")] = False,
) -> None:
    """Run rebuilds that servers queue, until Ctrl-C; with CROSSBIT_WORKER=none they run none themselves."""
    settings = open_settings()
    if check:
        from app.jobs_lock import running_workers

        running = running_workers(settings.jobs_dir)
        note(f"workers: {', '.join(running) or 'none'}")
        if not running:
            raise typer.Exit(FAILED)
        return
    from app.encoding import Encoders
    from app.main import load_artifact
    from app.working import work

    encoders = Encoders.of_rebuilds(settings.threads)
    try:
        work(settings, encoders.load if settings.encode_processes else load_artifact)
    finally:
        encoders.close()


@cli.command(rich_help_panel=SERVING)
def key(
    role: Annotated[Role, typer.Option(help="query may search and read, admin may also rebuild.")] = Role.QUERY,
    as_json: AsJson = False,
) -> None:
    """Make an API key. It is shown once; the service is given only its digest."""
    from app.keys import digest_of, new_key

    made = new_key()
    digest = digest_of(made)
    setting = f"CROSSBIT_KEYS__{role.upper()}"
    if as_json:
        show_json({"key": made, "role": role, "digest": digest, "setting": setting, "value": [digest]})
        return
    note(f"This key has the role {role} and is shown only now; callers send it as `Authorization: Bearer KEY`.")
    note(f"Give the service its digest: set {setting}='[\"{digest}\"]', with those of this role's other keys,")
    note(f"or add the line `{role} {digest}` to the file that CROSSBIT_KEYS_FILE names; then start it anew.")
    typer.echo(made)


@cli.command(rich_help_panel=SERVING)
def doctor(
    device: Annotated[Device | None, typer.Option(help="Measure this device against the CPU, too.")] = None,
    artifact: Annotated[str | None, typer.Option(help="Artifact to measure with; the only one if left out.")] = None,
    report: Annotated[Path | None, typer.Option(help="File for the measurements, as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, disk, port, jobs, device, artifacts, indexes, data sets; say what to do; exit 1 if any fails."""
    from app.doctor import Level, examine

    if device is None and (artifact is not None or report is not None):
        raise typer.BadParameter("expected --device beside --artifact and --report, found none")
    findings = list(examine(device))
    measured = None
    if device is not None and not any(one.level is Level.FAIL and one.check == "device" for one in findings):
        from app.doctor_device import as_findings, measure_device

        measured = measure_device(open_settings(), device, artifact)
        findings += as_findings(measured)
        if report is not None:
            report.write_text(json.dumps(measured, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    failed = any(one.level is Level.FAIL for one in findings)
    if as_json:
        shown = {} if measured is None else {"measured": measured}
        show_json({"ok": not failed, "findings": [asdict(one) for one in findings], **shown})
    else:
        rows = [[one.level, one.check, one.found, one.remedy] for one in findings]
        show_table(["", "check", "found", "what to do"], rows)
    if failed:
        raise typer.Exit(FAILED)
