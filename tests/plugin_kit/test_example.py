"""A third-party distribution next to the library: discovered, fitted, saved, loaded, uninstalled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.plugin_kit.distributions import distribution
from tests.plugin_kit.processes import FIT, cli, install, python, session, where, with_site
from tests.world import World

EXAMPLE = Path(__file__).parents[2] / "examples" / "vlmadapt-bias"

HELP_IMPORTS_NOTHING = """
import sys
from vlmadapt.cli.main import main
main(["--help"])
main(["plugins", "list"])
main(["plugins", "info", "slow"])
assert "torch" not in sys.modules
assert not {name for name in sys.modules if name.startswith("kit_")}
"""


@pytest.mark.slow
@pytest.mark.processes
def test_its_life(tmp_path: Path, world: World) -> None:
    source, site, run = tmp_path / "source", tmp_path / "site", tmp_path / "run"
    shutil.copytree(EXAMPLE, source)  # a build leaves nothing in the repository
    environment = install(source, site)
    listed = json.loads(cli(environment, "plugins", "list", "--kind", "method", "--json"))
    card = next(card for card in listed if card["name"] == "bias")
    assert (card["distribution"], card["status"]) == ("vlmadapt-bias", "ok")
    assert card["source"]["touches"] == ["text", "image"]

    config = str(source / "configs" / "bias.yaml")
    fit = ("fit", "--config", config, "--method.layers", "2", *FIT, *where(world), "--out", str(run))
    predict = ("predict", str(run), str(next(world.pictures.rglob("*.png"))))
    said = session(environment, fit, predict)
    assert f"run folder: {run}" in said
    assert "probability" in said

    shutil.rmtree(site)
    said = session(environment, predict, ("evaluate", str(run)), ("fit", "--resume", str(run)))
    assert said.count("exit code 2") == 3
    assert said.count("method 'bias' of the distribution 'vlmadapt-bias 0.1.0', which is not installed here") == 3


@pytest.mark.processes
def test_a_slow_import_does_not_slow_help_or_lists(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(5)\nraise RuntimeError('too late')\nclass Slow:\n    '''It takes its time.'''\n"
    distribution(tmp_path, "kit-slow", {"slow": "kit_slow:Slow"}, slow)
    assert "It takes its time." in python(with_site(tmp_path), "-c", HELP_IMPORTS_NOTHING)
