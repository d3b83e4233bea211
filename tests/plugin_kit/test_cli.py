"""`vlmadapt plugins`, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugin_kit.distributions import METHOD, distribution
from vlmadapt.cli.main import main

LOUD = METHOD + "    def build(self, backbone, task): print('hello')\n"


@pytest.fixture
def loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution(tmp_path, "kit-loud", {"loud": "kit_loud:Plain"}, LOUD)
    return "loud"


def test_list_and_info(loud: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plugins", "list", "--kind", "method"])
    listed = capsys.readouterr().out
    assert "mmrl++" in listed and "kit-loud" in listed
    main(["plugins", "info", "linear-probe"])
    told = capsys.readouterr().out
    assert "one-class: logistic regression needs at least two classes" in told
    main(["plugins", "info", loud, "--json"])
    assert json.loads(capsys.readouterr().out)["source"]["summary"] == "Nothing but CLIP."


def test_check_tells_failures_in_words_and_by_its_exit_code(loud: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["plugins", "check", loud, "--quick"])
    assert end.value.code == 1
    told = capsys.readouterr().out
    assert "FAIL quiet: It prints nothing." in told
    assert "it prints 'hello'. How to fix it: remove `print`" in told
    with pytest.raises(SystemExit):
        main(["plugins", "check", "kit-loud:loud", "--quick", "--json"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not report["conforms"]
    assert {check["check"]: check["status"] for check in report["checks"]}["quiet"] == "failed"


def test_check_of_a_data_set_and_of_a_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plugins", "check", "tiny", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["conforms"] and len(report["checks"]) == 5
    main(["plugins", "check", "openmoji"])
    told = capsys.readouterr().out
    assert "ok   splits" in told and "FAIL" not in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek"], "unknown action of `vlmadapt plugins` 'chek'. Did you mean 'check'?"),
        (["info", "mmrl+"], "unknown plugin 'mmrl+'. Did you mean 'mmrl++'?"),
        (["list", "--kind", "methods"], "unknown kind 'methods'. Did you mean 'method'?"),
        (["check", "coop", "--options", "[1]"], "--options is a JSON object"),
        (["check", "coop", "--options", '{"tokns": 1}', "--quick"], "unknown option of CoOp 'tokns'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["plugins", *arguments])
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert message in told
    assert told.count("\n") == 1
