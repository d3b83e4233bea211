"""A user's mistake is reported in one line that says what is wrong, with exit code 2."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.cli.command import call, program
from tests.data.pictures import class_folder
from tests.world import World
from vlmadapt import FitResult
from vlmadapt.core.backbone import text_transformers
from vlmadapt.training import checkpoint as state
from vlmadapt_mmrl.mmrl import MMRL

Capture = pytest.CaptureFixture[str]


# -- the command line itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fti"], "unknown command 'fti'. Did you mean 'fit'?"),
        (["fit"], "no method given; write --method NAME with one of "),
        (["fit", "--method"], "expected one argument"),
        (["fit", "--method", "mmlr"], "unknown method 'mmlr'. Did you mean 'mmrl'?"),
        (["fit", "--method=mmrl+"], "unknown method 'mmrl+'. Did you mean 'mmrl++'?"),
        (["fit", "--method", "MMRL++"], "unknown method 'MMRL++'. Did you mean 'mmrl++'?"),
        (["fit", "--method", "mmrl", "--lr", "0.1"], "unknown option --lr. Did you mean --train.lr?"),
        (["fit", "--method", "mmrl", "--train.tokens", "3"], "--train.tokens. Did you mean --method.tokens?"),
        (
            ["fit", "--method", "mmrl", "--method.tokns", "3"],
            "unknown option --method.tokns. Did you mean --method.tok",
        ),
        (["fit", "--method", "coop", "--method.rank", "3"], "unknown option --method.rank."),
        (["fit", "--method", "mmrl", "--shot", "3"], "unknown option --shot. Did you mean --shots?"),
        (["fit", "--method", "mmrl", "--shot=3"], "unknown option --shot. Did you mean --shots?"),
        (["fit", "--method", "mmrl", "surplus"], "unknown option surplus."),
        (
            ["fit", "--method", "mmrl", "--method.tokens", "many"],
            "--method.tokens is 'many'; it has to be a whole numb",
        ),
        (
            ["fit", "--method", "mmrl", "--method.layers", "[1,b]"],
            "--method.layers is 'b'; it has to be a whole number",
        ),
        (
            ["fit", "--method", "mmrl", "--method.text_tokens", "3"],
            "--method.text_tokens is '3'; it has to be true or ",
        ),
        (["fit", "--method", "mmrl", "--train.lr", "fast"], "--train.lr is 'fast'; it has to be a number."),
        (["fit", "--method", "mmrl", "--shots", "1.5"], "--shots is '1.5'; it has to be a whole number."),
        (["fit", "--method", "mmrl", "--workers", "x"], "--workers is 'x'; it has to be a whole number."),
        (["fit", "--method", "mmrl", "--train.optimizer", "sgdd"], "--train.optimizer 'sgdd'. Did you mean 'sgd'?"),
        (["fit", "--method", "mmrl", "--protocol", "few-shots"], "--protocol 'few-shots'. Did you mean 'few-shot'?"),
        (["fit", "--method", "mmrl", "--shots", "-1"], "shots is -1, it cannot be below 0."),
        (
            ["fit", "--method", "mmrl", "--seed", str(2**70)],
            "seed is 1180591620717411303424, it cannot be above 92233",
        ),
        (["evaluate"], "the following arguments are required: run"),
        (["predict", "run"], "the following arguments are required: images"),
        (["export", "run"], "the following arguments are required: --to"),
        (["merge"], "the following arguments are required: run, --out"),
        (["new", "metod", "x"], "unknown kind of plugin 'metod'. Did you mean 'method'?"),
        (["methods", "--jsn"], "unknown option --jsn. Did you mean --json?"),
        (["methods", "--backbone", "ViT-B-61"], "'ViT-B-61'. Did you mean 'ViT-B-16'?"),
    ],
    ids=" ".join,
)
def test_arguments_that_make_no_sense(capsys: Capture, arguments: list[str], message: str) -> None:
    assert message in call(capsys, *arguments).mistake()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("method: [\n  name: x\n", "config.yaml', line 3 is not valid YAML."),
        ("method: mmrl\n", "config.yaml': write the method as `method: {name: mmrl}`"),
        ("method: {name: 3}\n", "unknown method '3'."),
        ("method: {name: mmrl, tokns: 3}\n", "unknown option --method.tokns. Did you mean --method.tokens?"),
        ("method: {name: mmrl}\nshot: 3\n", "unknown option --shot. Did you mean --shots?"),
        ("method: {name: mmrl}\ntrain: {epoch: 3}\n", "unknown option --train.epoch. Did you mean --train.epochs?"),
        ("method: {name: mmrl, tokens: many}\n", "--method.tokens is 'many'; it has to be a whole number."),
        ("- mmrl\n", "is not a settings file; write `name: value` on each line."),
        (b"\xff\xfe\x00", "config.yaml' is not UTF-8 text."),
    ],
)
def test_a_config_file_that_makes_no_sense(capsys: Capture, tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    assert message in call(capsys, "fit", "--config", str(tmp_path / "config.yaml")).mistake()


def test_a_config_file_that_is_missing(capsys: Capture, tmp_path: Path) -> None:
    assert "none.yaml' does not exist." in call(capsys, "fit", "--config", str(tmp_path / "none.yaml")).mistake()
    assert "none.yaml' does not exist." in call(capsys, "fit", f"--config={tmp_path / 'none.yaml'}").mistake()


@pytest.mark.processes
def test_a_program_ends_with_the_same_line_and_code() -> None:
    assert "Did you mean 'fit'?" in program("fti").mistake()
    assert "none.yaml' does not exist." in program("fit", "--config", "none.yaml").mistake()


# -- data, backbone and method ----------------------------------------------------------------------------------------


@pytest.fixture
def bad(world: World, tmp_path: Path) -> Path:
    """Folders and files with something wrong."""
    for name in ("empty", "no images/a", "no images/b", "no run"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copytree(world.pictures, tmp_path / "corrupt")
    (tmp_path / "corrupt" / "red_fox" / "00.png").write_bytes(b"broken")
    shutil.copytree(world.pictures, tmp_path / "torn")
    for file in (tmp_path / "torn" / "red_fox").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    shutil.copytree(world.pictures, tmp_path / "unnamed")
    (tmp_path / "unnamed" / "red_fox").rename(tmp_path / "unnamed" / "_")
    class_folder(tmp_path / "single" / "cat", 3)
    (tmp_path / "long.txt").write_text("a\nb\nc\n" + "a very long name " * 20)
    (tmp_path / "hole.txt").write_text("a\n\nc\nd\n")
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    return tmp_path


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("data", "BAD/missing", "missing' does not exist"),
        ("data", "openmojo", "unknown data set 'openmojo'. Did you mean 'openmoji'?"),
        ("data", "BAD/empty", "there are no images in "),
        ("data", "BAD/no images", "there are no images in "),
        ("data", "BAD/single", "has only one class"),
        (
            "data",
            "BAD/corrupt",
            "1 of 28 images cannot be read: 'BAD/corrupt/red_fox/00.png'; replace or remove them, or ",
        ),
        ("data", "BAD/unnamed", "has a class with the empty name '_'"),
        ("classes", "BAD/hole.txt", "line 2 of 'BAD/hole.txt' is empty"),
        ("classes", "BAD/three.txt", "'BAD/three.txt' names 3 classes but there are 4"),
        ("classes", "BAD/missing.txt", "class names cannot be read from 'BAD/missing.txt': the file does not exist"),
        ("templates", '["a photo"]', "template 'a photo' must hold exactly one {}"),
        ("backbone", "tyni", "unknown backbone 'tyni'. Did you mean 'tiny'?"),
        ("backbone", "ViT-B-61:openai", "unknown backbone 'ViT-B-61'. Did you mean 'ViT-B-16'?"),
        ("backbone", "ViT-B-16", "say which weights: 'ViT-B-16:TAG' with one of openai, "),
        ("backbone", "ViT-B-16:opena", "unknown tag of ViT-B-16 'opena'. Did you mean 'openai'?"),
        ("backbone", "ViT-B-16:BAD/missing.pt", "There is no such file either."),
        ("backbone", "BAD/nothing", "`vlmadapt backbones` lists all. There is no such folder either."),
        ("backbone", "BAD/empty", "holds no open_clip_config.json"),
        ("method.layers", "[3,4]", "layer 4 (counted from 1) is used, but the text tower has 3."),
        ("method.layers", "[0]", "layers must be different numbers from 1 on, not [0]."),
        ("plan", "fast", "unknown value of --plan 'fast'"),
        ("out", "BAD/three.txt/run", "'BAD/three.txt/run' cannot be made: 'BAD/three.txt' is a file; name another"),
        ("train.batch_size", "0", "train.batch_size is 0, it cannot be below 1."),
    ],
)
def test_a_run_that_cannot_be_started(
    capsys: Capture, world: World, bad: Path, option: str, value: str, message: str
) -> None:
    given = world.arguments(bad / "run", "mmrl", f"--{option}", value.replace("BAD", str(bad)))
    told = call(capsys, *given).mistake().replace(str(bad), "BAD")
    assert message in told
    assert not (bad / "run").exists()


def test_a_tower_that_a_method_cannot_touch(
    capsys: Capture, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a ResNet is: a tower that has no blocks that are known."""
    monkeypatch.setattr(text_transformers, "views", lambda blocks: None)
    told = call(capsys, *world.arguments(tmp_path / "run", "mmrl")).mistake()
    assert "this method works inside the text tower, but this backbone's is a CLIP" in told
    assert "choose a backbone with a plain transformer" in told
    assert not (tmp_path / "run").exists()


def test_classes_that_a_method_cannot_answer_for(capsys: Capture, world: World, tmp_path: Path) -> None:
    given = world.arguments(tmp_path / "run", "tip-adapter-f", "--protocol", "base-to-novel")
    assert "use --protocol few-shot" in call(capsys, *given).mistake()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_already(capsys: Capture, world: World, base_to_novel: FitResult) -> None:
    told = call(capsys, *world.arguments(base_to_novel.folder)).mistake()
    assert f"'{base_to_novel.folder}' holds a run already; continue it with `vlmadapt fit --resume" in told


@pytest.mark.parametrize("name", ["empty", "missing"])
@pytest.mark.parametrize("command", [["fit", "--resume"], ["evaluate"], ["predict"]])
def test_a_folder_that_is_no_run(capsys: Capture, bad: Path, command: list[str], name: str) -> None:
    images = ["photo.jpg"] if command == ["predict"] else []
    told = call(capsys, *command, str(bad / name), *images).mistake()
    assert f"'{bad / name}' {'holds no run' if name == 'empty' else 'does not exist'}" in told


# -- what goes wrong on the way ---------------------------------------------------------------------------------------


def last_line(err: str) -> str:
    assert "Traceback" not in err
    assert err.endswith("\n")
    return err.splitlines()[-1]


def test_a_class_name_that_is_too_long_for_the_prompt(capsys: Capture, world: World, bad: Path) -> None:
    said = call(capsys, *world.arguments(bad / "run", "mmrl", "--classes", str(bad / "long.txt")))
    assert said.code == 2
    assert "the prompt for class 'a very long name a very long name" in last_line(said.err)


def test_a_full_disk(capsys: Capture, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    said = call(capsys, *world.arguments(tmp_path / "run"))
    assert said.code == 2
    told = last_line(said.err)
    assert told == (
        f"vlmadapt: '{tmp_path / 'run' / 'state.safetensors'}' cannot be written: No space left on device; "
        "the previous content is kept."
    )


def test_a_full_disk_elsewhere(capsys: Capture, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/cache")

    monkeypatch.setattr(MMRL, "build", full)
    assert "No space left on device: '/tmp/cache'" in call(capsys, *world.arguments(tmp_path / "run")).mistake()


def test_control_c_while_saving(capsys: Capture, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def control_c(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(state, "write_tensors", control_c)
    said = call(capsys, *world.arguments(tmp_path / "run"))
    assert said.code == 130
    assert last_line(said.err) == "vlmadapt: stopped."


def test_a_loss_that_is_not_finite(capsys: Capture, world: World, tmp_path: Path) -> None:
    said = call(capsys, *world.arguments(tmp_path / "run", "coop", "--train.lr", "1e38", "--train.warmup_epochs", "0"))
    assert said.code == 2
    assert "is not finite in epoch 1, step 2; training stopped" in last_line(said.err)


def test_corrupt_images_are_left_out_on_request(capsys: Capture, world: World, bad: Path) -> None:
    more = ("--data", str(bad / "corrupt"), "--skip_corrupt", "true")
    said = call(capsys, *world.arguments(bad / "run", "clip", *more))
    assert said.code == 0
    assert "1 broken image" in said.err


# -- evaluate and predict ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["BAD/missing.png"], "image 'BAD/missing.png' does not exist."),
        (["BAD/empty"], "no images in BAD/empty."),
        (["BAD/corrupt"], "no images in BAD/corrupt; --recursive reads the folders inside."),
        (["BAD/corrupt/red_fox/00.png"], "image 'BAD/corrupt/red_fox/00.png' cannot be read"),
        (["BAD/corrupt/red_fox/01.png", "--top", "0"], "--top is 0; name at least one class."),
        (["BAD/corrupt/red_fox/01.png", "--top", "x"], "--top is 'x'; it has to be a whole number."),
        (["BAD/corrupt/red_fox/01.png", "--copy"], "--copy says how images get into the folders of --sort_into"),
        (["BAD/corrupt/red_fox/01.png", "--reject_by", "energy"], "--reject_by says what --reject compares"),
        (["BAD/corrupt/red_fox/01.png", "--classes", ""], "--classes '' leaves nothing to choose from"),
        (["BAD/corrupt/red_fox/01.png", "--classes", ","], "--classes ',' leaves nothing to choose from"),
        (["BAD/corrupt/red_fox/01.png", "--classes", "BAD/mising.txt"], "mising.txt' leaves nothing to choose from"),
        (["BAD/corrupt/red_fox/01.png", "--classes", "BAD/corrupt/red_fox/01.png"], "is not UTF-8 text"),
        (["BAD/corrupt/red_fox/01.png", "--classes", "cat,_"], "class 1 has an empty name"),
        (["BAD/corrupt/red_fox/01.png", "--classes", "BAD/long.txt"], "more than the 40 that the text tower takes"),
        (["BAD/corrupt/red_fox/01.png", "--backbone", "tiny"], "'tiny' has other weights"),
    ],
)
def test_a_prediction_that_cannot_be_made(
    capsys: Capture, base_to_novel: FitResult, bad: Path, arguments: list[str], message: str
) -> None:
    given = [argument.replace("BAD", str(bad)) for argument in arguments]
    told = call(capsys, "predict", str(base_to_novel.folder), *given).mistake()
    assert message in told.replace(str(bad), "BAD")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "BAD/missing"], "missing' does not exist"),
        (["--data", "BAD/torn"], "8 of 22 images cannot be read: 'BAD/torn/red_fox/"),
        (["--data", "BAD/empty"], "there are no images"),
        (["--classes", "BAD/three.txt"], "names 3 classes but there are 4"),
        (["--backbone", "tiny"], "'tiny' has other weights"),
        (["--method.alfa", "0.5"], "unknown option --method.alfa. Did you mean --method.alpha?"),
    ],
)
def test_a_test_that_cannot_be_made(
    capsys: Capture, base_to_novel: FitResult, bad: Path, arguments: list[str], message: str
) -> None:
    given = [argument.replace("BAD", str(bad)) for argument in arguments]
    notes = int("BAD/torn" in arguments)  # on images that the run was trained on
    told = call(capsys, "evaluate", str(base_to_novel.folder), *given).mistake(notes)
    assert message in told.replace(str(bad), "BAD")
