"""The documentation site: pages written from the code have what it says, and links lead to pages."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import vlmadapt
import vlmadapt.plugin
from vlmadapt import registry

DOCS = Path(__file__).parents[1] / "docs"


def hook(name: str) -> ModuleType:
    """A script in `docs/` that MkDocs calls."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def methods() -> ModuleType:
    return hook("method_pages")


@pytest.fixture(scope="module")
def markdown() -> ModuleType:
    return hook("site_markdown")


def test_every_public_name_has_its_place_in_the_reference() -> None:
    page = (DOCS / "api.md").read_text()
    assert sorted(re.findall(r"^::: vlmadapt\.(\w+)$", page, re.M)) == sorted(vlmadapt.__all__)
    plugin_page = (DOCS / "plugin-api.md").read_text()
    assert [name for name in vlmadapt.plugin.__all__ if not re.search(rf"\b{name}\b", plugin_page)] == []


def test_every_built_in_method_has_a_page(methods: ModuleType) -> None:
    built_in = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == "vlmadapt"]
    assert sorted(methods.documented()) == sorted(built_in)
    assert len({methods.address(name) for name in built_in}) == len(built_in)


def test_a_method_page_has_source_options_recipe_files_and_published_numbers(methods: ModuleType) -> None:
    page = methods.page("coop")
    assert "::: vlmadapt_prompts.coop.CoOp" in page
    assert "- **Works inside**: text tower" in page
    assert "| `position` | `'end'` | position of the class name: after the context (end)" in page
    assert "| `lr` | `0.002` |" in page
    assert "```bash\nvlmadapt fit --config configs/coop/paper.yaml --data DATA\n```" in page
    assert "| mean of 11 data sets | 82.69 | 63.22 | 71.66 |" in page
    assert "| dtd | " in page


def test_the_list_of_methods_has_a_table_for_each_track(methods: ModuleType) -> None:
    _, few_shot, descriptions, test_time, transductive = methods.index().split("\n## ")
    assert few_shot.startswith("With labelled images alone\n") and "| [`coop`](coop.md) |" in few_shot
    assert descriptions.startswith("With class descriptions\n") and "| [`cupl`](cupl.md) |" in descriptions
    assert test_time.startswith("With test images\n") and "| [`tda`](tda.md) |" in test_time
    assert transductive.startswith("With unlabelled images\n") and "| [`promptkd`](promptkd.md) |" in transductive


def test_a_wrapper_works_where_the_method_inside_does(methods: ModuleType) -> None:
    assert methods.towers("wise-ft") == methods.towers("dpc") == "as the method inside"
    assert methods.towers("mmrl") == "both towers"
    assert methods.towers("taskres") == "no tower"


def test_options_of_base_classes_are_explained(methods: ModuleType) -> None:
    page = methods.page("mmrl++")
    assert "| `beta` | `0.9` | weight of the newly mapped tokens" in page
    assert "| `tokens` | `5` | number K of representation tokens. |" in page


def test_a_published_number_that_contradicts_others_is_marked(methods: ModuleType) -> None:
    flawed = next(number for number in methods.all_published() if "harmonic_mean" in number.flaws)
    row = methods.published_table([flawed]).splitlines()[-1]
    assert row.endswith(f"| {flawed.values['novel']:.2f} | {flawed.values['harmonic_mean']:.2f}* |")


@pytest.mark.parametrize(
    ("text", "folder", "expected"),
    [
        ("[how](docs/data.md#protocols)", ".", "[how](./data.md#protocols)"),
        ("[safe](../SECURITY.md)", "docs", "[safe](./SECURITY.md)"),
        ("[how](../CONTRIBUTING.md#parity)", "docs/methods", "[how](../CONTRIBUTING.md#parity)"),
        ("[list](../README.md#methods)", "docs", "[list](./methods/index.md)"),
        ("[tests](../tests/parity)", "docs", "`tests`"),
        ("[out](https://example.org) ![a](images/a.png)", "docs", "[out](https://example.org) ![a](images/a.png)"),
    ],
)
def test_links_lead_to_pages_of_the_site(markdown: ModuleType, text: str, folder: str, expected: str) -> None:
    source = DOCS.parent / folder
    place = source if folder != "." else DOCS
    assert markdown.LINK.sub(lambda link: markdown.site_link(link, source, place), text) == expected


def test_a_part_of_a_file_gets_the_file_as_its_title(markdown: ModuleType) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="plugin-guide.md"))
    text = markdown.on_page_markdown("```python file=a/b.py\ncode\n```", page, None, None)
    assert text == '```python title="a/b.py"\ncode\n```'


def test_a_picture_opens_in_full_size(markdown: ModuleType) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="architecture.md"))
    text = markdown.on_page_markdown("text\n\n![Layers](images/layers.svg)\n", page, None, None)
    assert text == "text\n\n[![Layers](images/layers.svg)](images/layers.svg)\n"
