"""What several places must say alike: server, SDK, commands and docs against the one table that owns it."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
import typer
from pydantic import ValidationError
from typer.main import get_command

from lensmount_adapters.augmentation import images, volumes
from lensmount_adapters.cli.train import train
from lensmount_adapters.dtypes import ALIASES, TF32, WORDS
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.options import copies
from lensmount_adapters.options.table import (
    JOB_OPTIONS,
    TRAINING_OPTIONS,
    options_of_jobs,
    options_of_train,
)
from lensmount_adapters.programs import choose
from lensmount_adapters.programs.precision import PRECISIONS, precision_of
from lensmount_adapters.training.checkpoint import load_checkpoint, save_checkpoint
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig
from lensmount_client import JobOptions
from lensmount_client._cli import jobs as jobs_cli
from lensmount_client._types import training_options as copy
from lensmount_service import cli as service_cli
from lensmount_service.errors import RequestInvalid
from lensmount_service.rollout_spec import Rules
from lensmount_service.settings import Settings
from lensmount_service.web.job_schemas import JobSubmission
from lensmount_service.worker.settings import WorkerSettings

ROOT = Path(__file__).parent.parent
TABLE = {option.name: option for option in (*TRAINING_OPTIONS, *JOB_OPTIONS)}
OF_JOBS = {option.name: option for option in options_of_jobs()}
RANGES = [option for option in options_of_jobs() if option.lowest is not None]
PROMPTS = {"templates": ["a photo of {}."], "classes": {"cat": ["a cat"]}}


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(data=Path("cells"), name="malaria", out=Path("malaria.safetensors"), **changes)


def submission(**changes: Any) -> Any:
    return JobSubmission(dataset="cells", adapter="malaria", **changes)


def test_the_table_has_every_field_of_the_training_config_with_its_default() -> None:
    defaults = {field.name: None if field.default is MISSING else field.default for field in fields(TrainingConfig)}
    defaults |= {"head": "linear", "augmentation": None}  # objects in the config; the table has their plain words
    assert {option.name: option.default for option in TRAINING_OPTIONS} == defaults
    required = {field.name for field in fields(TrainingConfig) if field.default is field.default_factory is MISSING}
    assert {option.name for option in TRAINING_OPTIONS if option.required} == required


def test_these_options_and_no_others_are_missing_from_jobs_and_from_the_command() -> None:
    assert {option.name for option in TRAINING_OPTIONS if option.not_in_jobs} == {
        *("data", "name", "out", "backbone", "weights", "resume", "device", "threads"),
        *("augmentation", "labels", "where", "loss", "class_depth", "max_image_bytes", "max_pixels"),
    }
    assert {option.name for option in TRAINING_OPTIONS if option.not_in_train} == {
        *("augmentation", "labels", "where", "loss"),
    }


def test_the_server_takes_the_options_of_jobs_with_their_defaults() -> None:
    taken = {name: field.default for name, field in JobSubmission.model_fields.items()}
    del taken["kind"], taken["dataset"], taken["adapter"]
    assert taken == {name: option.default for name, option in OF_JOBS.items()}
    assert submission().hyper_parameters() == {
        option.name: option.default for option in TRAINING_OPTIONS if not option.not_in_jobs
    }


@pytest.mark.parametrize("option", RANGES, ids=lambda option: option.name)
def test_server_and_training_take_the_same_lowest_and_highest_value(option: Any) -> None:
    def step(value: float, sign: int) -> float:
        return value + sign * (1 if option.type == "int" else 1e-9 * max(1, abs(value)))

    allowed, refused = [], []
    if option.minimum is not None:
        allowed, refused = [option.minimum], [step(option.minimum, -1)]
    else:
        allowed, refused = [step(option.above, 1)], [option.above]
    if option.maximum is not None:
        allowed, refused = [*allowed, option.maximum], [*refused, step(option.maximum, 1)]
    if option.below is not None:
        other = 0.15 if "fraction" in option.name else 0  # some images are to be left for training
        allowed, refused = [*allowed, step(option.below - other, -1)], [*refused, option.below]

    needed = {"positive": "sick"} if option.name in ("sensitivity", "specificity", "prevalence") else {}
    for value in allowed:
        submission(**{option.name: value} | needed).hyper_parameters()
    for value in refused:
        with pytest.raises(ValidationError):
            submission(**{option.name: value} | needed)
    if option.name in {one.name for one in TRAINING_OPTIONS}:
        for value in allowed:
            assert getattr(config(**{option.name: value} | needed), option.name) == value
        for value in refused:
            with pytest.raises(TrainingError):
                config(**{option.name: value} | needed)


@pytest.mark.parametrize("option", [one for one in RANGES if one.job_maximum is not None], ids=lambda one: one.name)
def test_a_server_bounds_what_a_run_of_ones_own_may_have(option: Any) -> None:
    more = option.job_maximum + 1
    submission(**{option.name: option.job_maximum}).hyper_parameters()
    with pytest.raises(ValidationError, match="less than or equal"):
        submission(**{option.name: more})
    assert getattr(config(**{option.name: more}), option.name) == more


@pytest.mark.parametrize("option", [one for one in options_of_jobs() if one.choices], ids=lambda one: one.name)
def test_server_and_training_take_the_same_words(option: Any) -> None:
    for word in option.choices:
        assert submission(**{option.name: word}).hyper_parameters()[option.name] == word
        assert getattr(config(**{option.name: word}), option.name) == word
    for wrong in ("zoom", 3):
        with pytest.raises(ValidationError):
            submission(**{option.name: wrong})
        with pytest.raises(TrainingError, match=f"expected .*{option.choices[-1]}"):
            config(**{option.name: wrong})


def test_the_presets_of_augmentation_are_the_words_of_the_option() -> None:
    assert set(TABLE["augment"].choices) == set(images.PRESETS)
    assert set(volumes.PRESETS) < set(images.PRESETS)


def test_what_a_job_says_of_volumes_and_texts_reaches_the_training_as_it_was_said() -> None:
    said = {"depth": 24, "depth_resize": "crop", "window": [-160, 240], "init_b_std": 0.01, "warmup": 0.2}
    said |= {"head": "text", "prompts": PROMPTS, "precision": "bf16", "file_dtype": "fp32"}

    stored = json.loads(json.dumps(submission(**said).hyper_parameters()))  # as the job table keeps it
    run = config(**stored)

    assert (run.depth, run.depth_resize, run.window) == (24, "crop", (-160.0, 240.0))
    assert (run.init_b_std, run.warmup, run.precision, run.file_dtype) == (0.01, 0.2, "bfloat16", "float32")
    assert run.prompts is not None
    assert run.prompts.texts("cat") == ["a photo of a cat."]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"window": (240, -160)}, r"window \(240, -160\)"),
        ({"window": (1, 2, 3)}, "window"),
        ({"validation_fraction": 0.6, "test_fraction": 0.4}, "fractions of 1 "),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"head": "text", "prompts": {"templates": ["no place"], "classes": {}}}, "prompts, templates.0"),
    ],
)
def test_what_cannot_work_together_is_refused_by_both(change: dict[str, Any], found: str) -> None:
    with pytest.raises(TrainingError, match=found):
        config(**change)
    with pytest.raises((ValidationError, RequestInvalid), match=r"window|fractions|finite|template"):
        submission(**change).hyper_parameters()


KINDS = {"str": str, "regex": str, "int": int, "float": float, "bool": bool, "window": tuple[float, float]}


def test_the_sdk_has_a_typed_field_for_each_option_of_a_job() -> None:
    hints = get_type_hints(JobOptions)
    assert list(hints) == list(OF_JOBS)
    for name, hint in hints.items():
        option = OF_JOBS[name]
        kind, none = get_args(hint) if get_origin(hint) is not Literal else (hint, None)
        assert none is NoneType, name
        if option.choices:
            assert get_args(kind) == option.choices, name
        elif name != "prompts":
            assert kind == KINDS[option.type], name


def test_the_clients_copy_and_the_tables_of_the_docs_are_what_make_options_writes() -> None:
    assert (ROOT / copies.CLIENT).read_text() == copies.client_module()
    for name, options in copies.TABLES.items():
        page = (ROOT / name).read_text()
        assert copies.with_table(page, options) == page, f"{name}: run `make options`"
        for option in options:
            assert f"| `{option.name}` |" in page
    assert [str(option) for option in copy.OPTIONS] == [str(option) for option in options_of_jobs()]


def parameters_of(command: Any) -> dict[str, Any]:
    app = typer.Typer()
    app.command()(command)
    return {parameter.name: parameter for parameter in get_command(app).params}


@pytest.mark.parametrize(
    ("command", "options"), [(train, options_of_train()), (jobs_cli.submit, options_of_jobs())], ids=["train", "submit"]
)
def test_both_commands_have_a_flag_for_each_option_with_its_range_and_help(command: Any, options: Any) -> None:
    parameters = parameters_of(command)
    for option in options:
        flag = parameters[option.name]
        assert option.command_flag in flag.opts
        assert flag.help.startswith(option.help)
        assert option.unset in flag.help
        if option.lowest is not None:
            assert (flag.min, flag.max) == (option.lowest, option.highest)
        if command is train:
            assert flag.default == option.default
            assert flag.required == option.required
        else:
            assert flag.default in (None, False)
            assert str(option.default if option.default not in (None, "", False) else "") in flag.help


def test_no_function_of_the_commands_spells_the_options_again() -> None:
    for command in (train, jobs_cli.submit):
        own = list(inspect.signature(command, follow_wrapped=False).parameters)
        assert len(own) > 40  # what typer sees
        assert command.__code__.co_argcount < 12  # what the source says


def test_number_formats_have_one_set_of_words_everywhere() -> None:
    assert WORDS == ("float32", "bfloat16", "float16")
    assert ALIASES == {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    assert FILE_DTYPES == choose.PRECISIONS == {word: getattr(torch, word) for word in WORDS}
    assert set(PRECISIONS) == set(TABLE["precision"].choices) - {"auto"}
    assert set(TABLE["file_dtype"].choices) == set(WORDS)
    served = {name: get_args(get_type_hints(Settings)[name]) for name in ("dtype", "precision")}
    assert served == {"dtype": WORDS, "precision": ("auto", "int8", *WORDS, TF32)}


@pytest.mark.parametrize(("short", "word"), ALIASES.items())
def test_a_short_word_means_the_full_one_wherever_it_is_said(short: Any, word: Any, tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, dtype=short, precision=short)
    assert (settings.dtype, settings.precision) == (word, word)
    assert config(file_dtype=short) == config(file_dtype=word)
    assert submission(file_dtype=short).hyper_parameters()["file_dtype"] == word
    assert choose.choose_executor("eager", short, "cpu", 1, None).dtype is getattr(torch, word)
    if word != "float16":  # training has no loss scaling, which float16 needs
        assert config(precision=short).precision == submission(precision=short).precision == word
        assert precision_of(short) is getattr(torch, word)


def test_a_checkpoint_with_the_short_words_of_an_older_run_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    save_checkpoint(path, {"settings": config().hyper_parameters() | {"precision": "bf16", "file_dtype": "fp16"}})

    load_checkpoint(path, config(precision="bfloat16").hyper_parameters())
    with pytest.raises(TrainingError, match="precision = 'bfloat16', expected 'float32'"):
        load_checkpoint(path, config(precision="float32").hyper_parameters())


UNITS = {"MiB": 2**20, "GiB": 2**30, "M": 10**6}


def number(text: str) -> float:
    """ "512 MiB" -> 536870912; "10,000" -> 10000."""
    amount, _, unit = text.replace(",", "").partition(" ")
    return float(amount) * UNITS.get(unit, 1)


@pytest.mark.parametrize(
    ("command", "settings"),
    [("serve", Settings), ("worker", WorkerSettings), ("calibrate", Settings), ("gc", Settings)],
)
def test_the_defaults_that_the_help_shows_are_those_of_the_settings(command: str, settings: Any) -> None:
    told = {"cores - 1", "SQLite in the state folder", "state folder"}  # computed, or None in words
    compared = 0
    for name, hint in get_type_hints(getattr(service_cli, command), include_extras=True).items():
        infos = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        shown = infos[0].show_default if infos else True
        if not isinstance(shown, str):
            continue
        default = settings.model_fields[name].default
        if shown in told:
            assert default is None or settings.model_fields[name].default_factory is not None, name
        elif isinstance(default, bool):
            assert shown == (name if default else f"no-{name}")
        elif isinstance(default, int):
            assert number(shown) == default, name
        else:
            assert shown == default, name
        compared += 1
    assert compared >= 2


def test_the_variables_in_the_docs_have_the_defaults_of_the_settings() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    rows = re.findall(r"^\| (`LENSMOUNT_[^|]+) \| ([^|]*)\|", page, re.MULTILINE)
    compared: dict[str, str] = {}
    for names, defaults in rows:
        first, *more = re.findall(r"`LENSMOUNT_(\w+)`|`(_\w+)`", names)
        stem = first[0].rsplit("_", 1)[0]
        fields_of = [first[0], *(other[0] or stem + other[1] for other in more)]
        shown = defaults.strip().split(", ")
        assert len(fields_of) == len(shown), names
        compared |= dict(zip(map(str.lower, fields_of), shown, strict=True))
    assert len(compared) > 20
    for name, shown in compared.items():
        default = Settings.model_fields[name].default
        if default is None:
            assert shown == "off", name
        else:
            assert (number(shown) if shown and not isinstance(default, str) else shown.strip("`")) == default, name


def test_server_and_worker_agree_where_both_have_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEASE_S", "BACKBONE", "WEIGHTS", "DEVICE", "STATE"):
        monkeypatch.delenv(f"LENSMOUNT_{name}", raising=False)
    ours, theirs = Settings.model_fields, WorkerSettings.model_fields
    both = set(ours) & set(theirs) - {"cache_bytes"}  # factors in memory there, datasets on disk here
    assert both >= {"lease_s", "backbone", "weights", "device", "state", "log_level", "log_format", "threads"}
    for name in both:
        assert ours[name].get_default(call_default_factory=True) == theirs[name].get_default(call_default_factory=True)
    assert ours["lease_s"].metadata == theirs["lease_s"].metadata
    assert Settings.model_fields["backbone"].default == TABLE["backbone"].default


def test_the_docs_of_rollouts_have_every_rule_with_its_default() -> None:
    page = (ROOT / "docs/rollouts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \| (\S+) \| .* \|$", page.partition("## Rules")[2], re.MULTILINE)
    documented = {name: {"on": True}.get(value) or float(value) for words, value in rows for name in words.split(", ")}
    defaults = {f"`{field.name}`": field.default for field in fields(Rules)}
    assert documented == defaults
