"""`lensmount adapters ...`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from lensmount_client._cli.alias import protect_alias, set_alias, show_stats
from lensmount_client._cli.fetch import add_adapter
from lensmount_client._cli.lazy import LazySubgroup
from lensmount_client._cli.options import ServerOptions, jsonable, with_options
from lensmount_client._cli.sharing import Public, share_adapter, unshare_adapter
from lensmount_client._cli.terminal import file_size, print_json, print_line, print_table
from lensmount_client._client import Client
from lensmount_client._errors import AliasNotFound, InvalidInput, Problem, VersionNotFound
from lensmount_client._files.adapter_file import read_adapter_file
from lensmount_client._files.paths import read_file
from lensmount_client._files.signing import signature_beside
from lensmount_client._reference import Reference
from lensmount_client._show.promises import promise_rows, promise_words
from lensmount_client._show.rollout import alias_words
from lensmount_client._show.table import Facts, Table
from lensmount_client._types.results import DeletedVersion, ImportReport, VersionInfo

app = typer.Typer(name="adapters", cls=LazySubgroup, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name on the server.")]
Version = Annotated[int | None, typer.Option("--version", min=1, metavar="N", help="One version only.")]


@app.command("list")
@with_options
def list_adapters(
    public: Public = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="The versions that can be undeleted.")] = False,
    *,
    server: ServerOptions,
) -> None:
    """List the adapters of a server."""
    with server.client() as client:
        if deleted:
            _print_deleted(client.adapters.deleted(), server)
            return
        infos = client.adapters.list(public=public)
    if server.json:
        print_json({"adapters": [jsonable(info) for info in infos]})
        return
    if not infos:
        print_line("No adapters yet. Upload one: lensmount adapters push FILE.safetensors")
        return
    measured = any(info.trust for info in infos)
    trust = ["trust"] if measured else []
    columns = ("name", "version", "method", "labels", "size", "status", "aliases", *trust)
    table = Table(*columns, right=["version", "size"])
    for info in infos:
        aliases, size = alias_words(info), file_size(info.size_bytes)
        texts = (info.name, str(info.version), info.method, ", ".join(info.labels), size, info.status, aliases)
        table.add_row(*texts, *([promise_words(info.trust)] if measured else []))
    print_table(table)


def _print_deleted(versions: list[DeletedVersion], server: ServerOptions) -> None:
    if server.json:
        print_json({"deleted": [jsonable(version) for version in versions]})
        return
    table = Table("name", "version", "size", "deleted", "kept until", right=["version", "size"])
    for each in versions:
        times = (f"{moment:%Y-%m-%d %H:%M}" for moment in (each.deleted_at, each.kept_until))
        table.add_row(each.name, str(each.version), file_size(each.size_bytes), *times)
    print_table(table)
    print_line("To take one back: lensmount adapters undelete NAME --version N")


@app.command()
@with_options
def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An adapter file, *.safetensors.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name on the server; by default that of the file.")
    ] = None,
    accept_rounded_backbone: Annotated[
        bool,
        typer.Option(
            "--accept-rounded-backbone",
            help="Also take one that was made for the server's weights in another precision, and say what it changes.",
        ),
    ] = False,
    key: Annotated[Path | None, typer.Option("--key", metavar="KEY", help="A private key to sign with.")] = None,
    *,
    server: ServerOptions,
) -> None:
    """Upload an adapter, with its signature FILE.sig if there is one. The same bytes do not make a new version."""
    signature = None if key is not None else signature_beside(file)
    with server.client() as client:
        pushed = client.adapters.push(
            file, name, accept_rounded_backbone=accept_rounded_backbone, sign_with=key, signature=signature
        )
    if server.json:
        print_json({word: value for word, value in jsonable(pushed).items() if value is not None})
    else:
        print_line(f"{pushed.name}@{pushed.version}  {pushed.digest}")
        if pushed.note:
            print_line(f"Note: {pushed.note}")


@app.command("import")
@with_options
def import_(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder of PEFT's save_pretrained, or a file of PEFT or LyCORIS.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name on the server; by default that of the folder or file.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B|FILE", help="The classes in the order of the classifier, or a file with one per line."
        ),
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='Fields that differ from the backbone\'s own, like {"resize": "squash"}.'),
    ] = None,
    head: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The classifier's weight and bias, for an adapter without one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be imported; store nothing.")] = False,
    *,
    server: ServerOptions,
) -> None:
    """Import an adapter of PEFT, LyCORIS or kohya's scripts, exactly or not at all, with a report on every tensor."""
    with server.client() as client:
        imported = client.adapters.import_(
            path, name, labels=_labels(labels), preprocessing=_rule(preprocessing), head=head, dry_run=dry_run
        )
    if server.json:
        print_json(jsonable(imported))
        return
    adapter = imported.adapter
    print_line(
        "dry run: nothing is stored" if adapter is None else f"{adapter.name}@{adapter.version}  {adapter.digest}"
    )
    for line in _report_lines(imported.report):
        print_line(line)


def _labels(text: str | None) -> list[str]:
    """Names with commas between them, or those in a file, one per line."""
    if text is None:
        return []
    if Path(text).is_file():
        lines = read_file(text).decode("utf-8", "replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return [label.strip() for label in text.split(",")]


def _rule(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f'--preprocessing: found no JSON ({error}). Fix: write it like {{"resize": "squash"}}, in single quotes'
        ) from error
    if not isinstance(value, dict):
        raise InvalidInput('--preprocessing: found no object. Fix: write it like {"resize": "squash"}')
    return value


def _report_lines(report: ImportReport) -> Iterator[str]:
    yield (
        f"{report.tool} {report.method}: {len(report.matched)} modules, {report.share:.1%} of the file's numbers, "
        f"largest relative error {report.error:.1e}, stored as {report.stored_as}"
    )
    yield f"labels: {', '.join(report.labels[:12])}{' and others' if len(report.labels) > 12 else ''}"
    for name, reason in report.ignored.items():
        yield f"ignored {name}: {reason}"
    yield from report.notes
    yield report.unproven


@app.command()
@with_options
def pull(
    name: Name,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File or folder; by default NAME.safetensors here.")
    ] = None,
    version: Version = None,
    *,
    server: ServerOptions,
) -> None:
    """Download an adapter and check its digest. An existing file is replaced only by a complete new one."""
    with server.client() as client:
        pulled = client.adapters.pull(name, out or Path(), version)
    if server.json:
        print_json(jsonable(pulled) | {"path": str(pulled.path)})
    else:
        print_line(f"{pulled.path}  {file_size(pulled.size_bytes)}  {pulled.digest}")


@app.command()
@with_options
def export(
    what: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A name on the server, or a .safetensors file here.")
    ],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="peft, lycoris, timm, onnx, openvino or torchscript.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A new folder; by default NAME-FORMAT here.")
    ] = None,
    version: Version = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="For a FILE: the backbone's weights, FILE, hub or random:SEED."),
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Write an adapter in the format of another tool, with the same logits. A FILE needs the extra torch here."""
    if what.endswith(".safetensors") or Path(what).is_file():
        if version is not None:
            raise InvalidInput("found --version with a file, expected a name on the server. Fix: leave --version out")
        export_file = import_module("lensmount_adapters.cli.export").export_file  # an extra, imported only when used
        document = export_file(Path(what), to, out, weights, server.json)
    else:
        if weights is not None:
            raise InvalidInput("found --weights with a name, expected a file. Fix: leave --weights out")
        with server.client() as client:
            document = jsonable(client.adapters.export(what, to, out, version))
    document["path"] = str(document["path"])
    if server.json:
        print_json(document)
        return
    print_line(f"{document['path']}  {', '.join(document['files'])}")
    for note in document["notes"]:
        print_line(f"Note: {note}")


@app.command()
@with_options
def delete(
    name: Name,
    version: Version = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="For good: it cannot be undeleted, and frees its space.")
    ] = False,
    *,
    server: ServerOptions,
) -> None:
    """Delete an adapter with all its versions, or one version of it. `lensmount adapters undelete` takes it back."""
    with server.client() as client:
        client.adapters.delete(name, version, purge=purge)
    if server.json:
        print_json({"deleted": {"name": name, "version": version}})
    else:
        print_line(f"deleted {name}" + (f"@{version}" if version else " with all its versions"))


@app.command()
@with_options
def undelete(
    name: Name,
    version: Version = None,
    *,
    server: ServerOptions,
) -> None:
    """Undo the latest delete of an adapter, with its aliases, or that of one version."""
    with server.client() as client:
        adapter = client.adapters.undelete(name, version)
    if server.json:
        print_json(jsonable(adapter))
    else:
        print_line(f"{name}: version {version or adapter.version} is back")


@app.command()
@with_options
def release(
    reference: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="As `lensmount adapters list` shows it.")],
    *,
    server: ServerOptions,
) -> None:
    """Compute a version again that the server quarantined because it failed too often."""
    found = Reference.parse(reference)
    if found.version is None:
        raise InvalidInput(f"found {reference}, expected NAME@VERSION. Fix: name the version, such as {found.name}@1")
    with server.client() as client:
        released = client.adapters.release(found.name, found.version)
    if server.json:
        print_json(asdict(released))
    else:
        print_line(f"released {released.name}@{released.version}  {released.digest}")


_OTHERS = {"add": add_adapter, "share": share_adapter, "unshare": unshare_adapter}
for word, command in {"alias": set_alias, "protect": protect_alias, "stats": show_stats, **_OTHERS}.items():
    app.command(word)(command)


@app.command()
@with_options
def inspect(
    what: Annotated[
        str, typer.Argument(metavar="REFERENCE|FILE", help="name, name@3, name:alias, or a .safetensors file.")
    ],
    *,
    server: ServerOptions,
) -> None:
    """Show the method, labels, backbone, size and training metrics of an adapter."""
    if what.endswith(".safetensors") or Path(what).is_file():
        facts = _facts_of_file(Path(what))
    else:
        with server.client() as client:
            facts = _facts_of_version(resolve(client, Reference.parse(what)))
    if server.json:
        print_json(facts)
    else:
        print_table(_facts_table(facts))


def resolve(client: Client, reference: Reference) -> VersionInfo:
    """The version that a reference points to now. Raises AliasNotFound or VersionNotFound."""
    info = client.adapters.get(reference.name)
    if reference.alias is not None:
        if reference.alias not in info.aliases:
            known = ", ".join(info.aliases) or "none"
            detail = f"{info.name}: found no alias {reference.alias}. Existing aliases: {known}"
            raise AliasNotFound(_not_found("alias", detail))
        return client.adapters.version(info.name, info.aliases[reference.alias])
    if reference.digest is not None:
        for number in info.versions:
            version = client.adapters.version(info.name, number)
            if version.digest == reference.digest:
                return version
        detail = f"{info.name}: none of its {len(info.versions)} versions has {reference.digest}"
        raise VersionNotFound(_not_found("version", detail))
    return client.adapters.version(info.name, reference.version or info.version)


def _not_found(word: str, detail: str) -> Problem:
    return Problem(404, f"{word}_not_found", "Not Found", detail)


def _facts_of_file(path: Path) -> dict[str, Any]:
    file = read_adapter_file(path)
    return {
        "file": str(path),
        "digest": file.digest,
        "size_bytes": file.size_bytes,
        "parameters": file.parameters,
        "manifest": dict(file.manifest),
    }


def _facts_of_version(version: VersionInfo) -> dict[str, Any]:
    return jsonable(version)


def _facts_table(facts: dict[str, Any]) -> Facts:
    manifest = facts["manifest"]
    backbone, training = _object(manifest, "backbone"), _object(manifest, "training")
    metrics = _object(training, "metrics")
    rows = {
        "adapter": facts.get("file") or f"{facts['name']}@{facts['version']}",
        "digest": facts["digest"],
        "size": file_size(facts["size_bytes"]),
        "parameters": f"{facts['parameters']:,}" if "parameters" in facts else "",
        "method": manifest.get("method"),
        "labels": ", ".join(map(str, manifest.get("labels") or ())),
        "backbone": backbone.get("name"),
        "fingerprint": backbone.get("fingerprint"),
        "licence": manifest.get("license") or manifest.get("licence"),
    }
    lines = Facts()
    for word, value in [*rows.items(), *promise_rows(manifest), *_flat(metrics)]:
        lines.add(word, str(value or ""))
    return lines


def _object(fields: dict[str, Any], key: str) -> dict[str, Any]:
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def _flat(metrics: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """{"test": {"accuracy": 0.95}} as ("test accuracy", "0.9500"). Lists are left out; --json shows them."""
    for word, value in metrics.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{word} ")
        elif not isinstance(value, list):
            yield prefix + word.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value)
