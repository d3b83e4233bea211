"""Files are written atomically, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
import torch
from accelerate import Accelerator

from tests.world import World, metrics, outcome
from vlmadapt import FitResult, FitSettings, VlmadaptError, fit, load
from vlmadapt.core.adapter import load_adapter, save_adapter
from vlmadapt.core.recipe import Recipe
from vlmadapt.files import replacing, write_json, write_tensors, write_text
from vlmadapt.testing.training import OneProcess
from vlmadapt.training import checkpoint as state
from vlmadapt.training import loop
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.trainer import StepTrainer


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def control_c() -> None:
    raise KeyboardInterrupt


FAILURES: list[tuple[Callable[[], None], type[BaseException]]] = [(full, VlmadaptError), (control_c, KeyboardInterrupt)]
failures = pytest.mark.parametrize(("fail", "error"), FAILURES, ids=["full disk", "Ctrl-C"])


@contextmanager
def failing_write(number: int, fail: Callable[[], None], into: str) -> Iterator[None]:
    """The write number `number` (from 0) to a file with `into` in its name stops half way."""
    original = Path.write_bytes
    seen = 0

    def write_bytes(self: Path, data: bytes) -> int:
        nonlocal seen
        if into in self.name:
            seen += 1
            if seen == number + 1:
                original(self, data[: len(data) // 2])
                fail()
        return original(self, data)

    def write_text_(self: Path, data: str, encoding: str | None = None) -> int:
        return self.write_bytes(data.encode(encoding or "utf-8"))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "write_bytes", write_bytes)
        patched.setattr(Path, "write_text", write_text_)
        yield


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]


@failures
def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, fail: Callable[[], None], error: type[BaseException]
) -> None:
    write_text(tmp_path / "a.txt", "old")
    with failing_write(0, fail, "a.txt"), pytest.raises(error):
        write_text(tmp_path / "a.txt", "new and longer")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@failures
def test_of_two_files_that_belong_together_both_stay_as_they_were(
    tmp_path: Path, fail: Callable[[], None], error: type[BaseException]
) -> None:
    for name in "ab":
        write_text(tmp_path / name, "old")
    with pytest.raises(error), replacing(tmp_path / "a", tmp_path / "b") as (first, _):
        first.write_text("new")
        fail()
    assert [(tmp_path / name).read_text() for name in "ab"] == ["old", "old"]
    assert names(tmp_path) == ["a", "b"]


def test_a_full_disk_is_reported_in_a_sentence(tmp_path: Path) -> None:
    """A file size limit simulates a full disk: the system refuses the write."""
    write_tensors(tmp_path / "a.safetensors", {"x": torch.ones(3)})
    before = (tmp_path / "a.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(VlmadaptError, match=r"a.safetensors' cannot be written: File too large; the previous"):
            write_tensors(tmp_path / "a.safetensors", {"x": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert names(tmp_path) == ["a.safetensors"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VlmadaptError, match=r"file/run/a.json' cannot be written: Not a directory"):
        write_json(tmp_path / "file" / "run" / "a.json", {})


def test_what_is_written_is_readable_by_others(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Spürhund"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "Spürhund"\n}\n'
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return world.fit(tmp_path_factory.mktemp("whole") / "run")


@failures
@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_survives_a_failed_attempt_to_write_another_over_it(
    world: World, tmp_path: Path, whole: FitResult, fail: Callable[[], None], error: type[BaseException], file: str
) -> None:
    backbone = whole.classifier.backbone
    kept, _ = load_adapter(whole.folder / "adapter", backbone, ["a", "b"])
    save_adapter(tmp_path, "mmrl", kept, backbone, ["a photo of a {}."])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other, _ = load_adapter(whole.folder / "adapter", backbone, ["a", "b"])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    with failing_write(0, fail, file), pytest.raises(error):
        save_adapter(tmp_path, "mmrl", other, backbone, ["a photo of a {}."])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    loaded, _ = load_adapter(tmp_path, backbone, ["a", "b"])
    assert all(map(torch.equal, loaded.parameters(), kept.parameters()))


@failures
@pytest.mark.parametrize("file", ["state.safetensors", "metrics.jsonl"])
def test_a_run_resumes_from_the_state_before_a_failed_save(
    world: World, tmp_path: Path, whole: FitResult, fail: Callable[[], None], error: type[BaseException], file: str
) -> None:
    with failing_write(1, fail, file), pytest.raises(error):
        world.fit(tmp_path / "run")
    assert len(metrics(tmp_path / "run")) == 1
    assert not temporaries(tmp_path)
    fit(FitSettings("mmrl"), resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(whole.folder)


@failures
@pytest.mark.parametrize("file", ["adapter_config.json", "result.json"])
def test_a_trained_run_loses_nothing_when_its_end_cannot_be_written(
    world: World, tmp_path: Path, whole: FitResult, fail: Callable[[], None], error: type[BaseException], file: str
) -> None:
    with failing_write(0, fail, file), pytest.raises(error):
        world.fit(tmp_path / "run")
    assert not temporaries(tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.delattr(loop.TrainingLoop, "_step")  # it is trained already
        fit(FitSettings("mmrl"), resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(whole.folder)
    assert load(tmp_path / "run").classes == load(whole.folder).classes


@failures
@pytest.mark.parametrize("file", ["config.yaml", "data.json", "environment.json"])
def test_a_folder_that_could_not_be_begun_is_no_run(
    world: World, tmp_path: Path, fail: Callable[[], None], error: type[BaseException], file: str
) -> None:
    with failing_write(0, fail, file), pytest.raises(error):
        world.fit(tmp_path / "run", "clip")
    assert not temporaries(tmp_path)
    world.fit(tmp_path / "run", "clip")


def test_the_state_is_one_file(whole: FitResult, tmp_path: Path) -> None:
    """Tensors and numbers are replaced together; there is no moment when they belong to different steps."""
    method = whole.classifier.method
    trainer = StepTrainer(method, Recipe(optimizer="adamw"), cast(Accelerator, OneProcess()))
    state.save_state(tmp_path / "state", method, trainer, TrainingProgress(epoch=2, step=1, sums={"loss": 0.1}))
    progress = state.load_state(tmp_path / "state", method, trainer)
    assert progress == TrainingProgress(epoch=2, step=1, sums={"loss": 0.1})
    assert names(tmp_path) == ["state"]


def test_a_state_knows_which_parameters_are_trained(whole: FitResult, tmp_path: Path) -> None:
    """A method may switch them at the start of an epoch, within which a run may be stopped."""
    method = whole.classifier.method
    trainer = StepTrainer(method, Recipe(optimizer="adamw"), cast(Accelerator, OneProcess()))
    switched = next(iter(method.parameters()))
    switched.requires_grad_(False)
    state.save_state(tmp_path / "state", method, trainer, TrainingProgress())
    for parameter in method.parameters():
        parameter.requires_grad_(parameter is switched)
    state.load_state(tmp_path / "state", method, trainer)
    assert [p for p in method.parameters() if not p.requires_grad] == [switched]
    switched.requires_grad_(True)


def test_a_state_that_is_written_over_leaves_the_loaded_one_alone(whole: FitResult, tmp_path: Path) -> None:
    method = whole.classifier.method
    trainer = StepTrainer(method, Recipe(optimizer="adamw"), cast(Accelerator, OneProcess()))
    trainer.apply([torch.ones_like(parameter) for parameter in method.parameters()])
    state.save_state(tmp_path / "state", method, trainer, TrainingProgress())
    state.load_state(tmp_path / "state", method, trainer)
    before = [values["exp_avg"].clone() for values in trainer.optimizer.state.values()]
    (tmp_path / "state").write_bytes(bytes((tmp_path / "state").stat().st_size))
    assert all(tensor.any() for tensor in before)
    assert all(map(torch.equal, before, (values["exp_avg"] for values in trainer.optimizer.state.values())))
