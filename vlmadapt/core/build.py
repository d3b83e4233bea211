"""From a registered name and options to a method on a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from vlmadapt import registry
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.method import Method, Task
from vlmadapt.errors import PluginError, unknown


def method_class(name: str) -> type[Method]:
    """The class registered under a name, or under `distribution:name`.

    Raises:
        PluginError: the name is unknown or ambiguous, the plugin is broken or written for another plugin API, or it is
            not a method.
    """
    plugin = registry.find(registry.METHODS, name)
    found = plugin.load()
    if not (isinstance(found, type) and issubclass(found, Method) and is_dataclass(getattr(found, "Config", None))):
        raise PluginError(
            f"{plugin} is broken: it is not a subclass of vlmadapt.plugin.Method with a dataclass `Config`."
        )
    plugin.check_api(found.api_version)
    return found


def make_config(method: type[Method], options: Mapping[str, Any]) -> Any:
    """The method's config from options by name.

    Raises:
        PluginError: an option that the method does not have.
    """
    known = {field.name for field in fields(method.Config)}
    for option in options:
        if option not in known:
            raise PluginError(unknown(f"option of {method.__name__}", option, known))
    return method.Config(**options)


def build_method(name: str, backbone: Backbone, task: Task, options: Mapping[str, Any] | None = None) -> Method:
    """Build a method by name, on the backbone's device.

    Raises:
        PluginError: the name or an option is unknown, or the method cannot be built with these values.
        BackboneError: the method works inside a tower that this backbone does not open.
    """
    cls = method_class(name)
    config = make_config(cls, options or {})
    try:
        return cls(config, backbone, task).to(backbone.device)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if registry.strict():
            raise
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PluginError(f"method '{name}' cannot be built with {config}: {cause}") from error
