"""Build a method from its registered name and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from vlmadapt import registry
from vlmadapt.errors import PluginError, VlmadaptError
from vlmadapt.text import first_line
from vlmadapt.validation import validated

if TYPE_CHECKING:  # settings refer to methods and must be readable without torch
    from vlmadapt.core.backbone import Backbone
    from vlmadapt.core.method import Method, Task
    from vlmadapt.core.recipe import Recipe


@dataclass(frozen=True)
class MethodSpec:
    """A method by its registered name, with its options.

    Attributes:
        name: registered name, or `distribution:name`.
        config: the method's `Config` with validated values.
    """

    name: str
    config: Any

    @classmethod
    def make(cls, name: str, options: Mapping[str, Any] | None = None) -> MethodSpec:
        """Validate options and make them the method's config.

        Args:
            name: registered name.
            options: values by option name; missing options keep their published values.

        Raises:
            PluginError: the method is unknown or broken.
            SettingError: an option is unknown, or has a value that it cannot have.
        """
        return cls(name, make_config(method_class(name), options or {}))

    @property
    def options(self) -> dict[str, Any]:
        """Plain values by option name, for files."""
        return asdict(self.config)

    @property
    def recipe(self) -> Recipe:
        """The published training settings with these options."""
        return method_class(self.name).recipe_for(self.config)

    @property
    def unlabelled(self) -> bool:
        """Whether the method trains on images without labels."""
        return method_class(self.name).unlabelled

    def build(self, backbone: Backbone, task: Task) -> Method:
        """Build the method, on the backbone's device.

        Raises:
            PluginError: the method cannot be built with these values.
            BackboneError: the method works inside a tower that this backbone does not open.
        """
        try:
            return method_class(self.name)(self.config, backbone, task).to(backbone.device)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if registry.strict():
                raise
            raise PluginError(
                f"method '{self.name}' cannot be built with {self.config}: {first_line(error)}"
            ) from error


def method_class(name: str) -> type[Method]:
    """The class registered under a name, or under `distribution:name`.

    Raises:
        PluginError: the name is unknown or ambiguous, or the plugin is broken, not a method, or written for a plugin
            API version that is not supported.
    """
    plugin = registry.find(registry.METHODS, name)
    found = plugin.load()
    from vlmadapt.core.method import Method

    if not (isinstance(found, type) and issubclass(found, Method)):
        raise PluginError(f"{plugin} is broken: it is not a subclass of vlmadapt.plugin.Method.")
    if not is_dataclass(getattr(found, "Config", None)):
        raise PluginError(f"{plugin} is broken: it has no `Config`; make it a dataclass of the options, if only empty.")
    plugin.check_api(found.api_version)
    plugin.warn_outdated(found.api_version)
    return found


def make_config(method: type[Method], options: Mapping[str, Any]) -> Any:
    """The method's config from options by name.

    Raises:
        SettingError: an option is unknown, or has a value that it cannot have.
        PluginError: the config refuses the values.
    """
    values = validated(method.Config, options, f"option of {method.__name__}", "method.")
    try:
        return method.Config(**values)
    except VlmadaptError:
        raise
    except Exception as error:  # raised by the plugin's own check, or by a bug in it
        raise PluginError(f"the options of {method.__name__} cannot be {values}: {first_line(error)}") from error


def build_method(name: str, backbone: Backbone, task: Task, options: Mapping[str, Any] | None = None) -> Method:
    """Build a method by name, on the backbone's device; see `MethodSpec`."""
    return MethodSpec.make(name, options).build(backbone, task)
