"""A `serve deploy` file, checked before a cluster sees it. Needs no cluster.

Ray's own schema leaves out what it does not know: `num_replica: 4` deploys one replica, and
nothing says so. Here every key has to be one that the schema, or our application's arguments, name.
"""

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.schema import ServeDeploySchema

from serve_apps.app_args import DEFAULT_MODEL, EmbeddingAppArgs
from serve_apps.keys import read_keys
from serve_apps.tls import require_pair, require_proxy_with_tls
from sleepmami.config.embedding import is_loopback
from sleepmami.errors import CheckpointError, ConfigError
from sleepmami.training.checkpoint import load_bundle

OURS = "serve_apps.embedding_app:build"
_DEFAULT_HOST = "127.0.0.1"  # Serve's own, where http_options names none


def check_serve_file(path: Path, *, read: bool = False) -> list[str]:
    """What is wrong with a file, each with its place; empty when it can be deployed.

    Args:
        path: of the YAML.
        read: also what it names, where there is nothing wrong with the file itself: bundles, the
            key file and the certificate with its key, as the service would.

    Raises:
        ConfigError: the file cannot be read, or is not YAML.
    """
    try:
        content = yaml.load(path.read_text(), Loader=_StrictLoader)  # a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected a Serve file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: found no YAML ({str(error).splitlines()[0]})") from None
    return problems_of(content) or (list(_unreadable(content)) if read else [])


def _unreadable(content: dict[str, Any]) -> Iterator[str]:
    """Of a file that can be deployed, what it names that cannot be read; Any: YAML values.

    Serve finds that out one replica after the other, when the old ones are being replaced.
    """
    options = content.get("http_options") or {}
    try:
        if options.get("ssl_certfile"):  # and so its key
            require_pair(str(options["ssl_certfile"]), str(options["ssl_keyfile"]))
    except ConfigError as error:
        yield f"http_options.{error}"
    for index, application in enumerate(content["applications"]):
        if application["import_path"] != OURS:
            continue
        place = f"applications.{index}.args"
        args = EmbeddingAppArgs.model_validate(application.get("args", {}))
        for name, uri in args.bundles.items():
            where = f"{place}.bundle" if name == DEFAULT_MODEL else f"{place}.models.{name}"
            try:
                if load_bundle(uri).macro is None:
                    yield f"{where}: found no Macro-Encoder in {uri}; serving needs a full bundle"
            except CheckpointError as error:
                yield f"{where}: {error}"
        try:
            if args.keys_file is not None:
                read_keys(Path(args.keys_file))
        except ConfigError as error:
            yield f"{place}.keys_file: {error}"


def problems_of(content: Any) -> list[str]:  # Any: YAML values
    """What is wrong with a file's content, each with its place."""
    if not isinstance(content, dict):
        return [f"the file: found {type(content).__name__}; expected a mapping with applications"]
    found = list(unknown_keys(content, ServeDeploySchema))
    if not content.get("applications"):
        return [*found, "applications: found none; expected at least one"]
    try:
        ServeDeploySchema.model_validate(content)
    except ValidationError as error:
        found += [f"{_place(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)]
        return found  # what follows relies on types
    found += _tls(content.get("http_options") or {})
    for index, application in enumerate(content["applications"]):
        place = f"applications.{index}"
        found += [f"{place}.{problem}" for problem in _application(application, content)]
    return found


def unknown_keys(value: Any, model: type[BaseModel], place: str = "") -> Iterator[str]:
    """Keys that a pydantic model would leave out without a word, at any depth.

    Args:
        value: of a YAML file, for this model.
        model: what reads it.
        place: where it is, for the message.
    """
    if not isinstance(value, dict):
        return
    fields = {name: info.annotation for name, info in model.model_fields.items()}
    aliases = {i.alias: i.annotation for i in model.model_fields.values() if i.alias}
    known = fields | aliases
    for key, inner in value.items():
        here = f"{place}.{key}" if place else str(key)
        if key not in known:
            close = difflib.get_close_matches(str(key), list(map(str, known)), n=1, cutoff=0.5)
            expected = close[0] if close else "one of " + ", ".join(sorted(fields))
            yield f"{here}: found an unknown key; expected {expected}"
            continue
        for inner_model in _models_in(known[key]):
            items = inner if isinstance(inner, list) else [inner]
            for index, item in enumerate(items):
                at = f"{here}.{index}" if isinstance(inner, list) else here
                yield from unknown_keys(item, inner_model, at)


def _models_in(annotation: Any) -> list[type[BaseModel]]:  # Any: a type, or a form of typing's
    """The pydantic models in an annotation such as Optional[List[Model]]."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]


def _application(application: dict[str, Any], content: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one application; Any: YAML values."""
    import_path = application["import_path"]
    builder = _imported(import_path)
    if isinstance(builder, str):
        yield f"import_path: {builder}"
        return
    for place, environment in _runtime_envs(application):
        for key in sorted(set(environment) - RuntimeEnv.known_fields):
            yield f"{place}.{key}: found an unknown key"
    args = application.get("args", {})
    wanted = _args_model(builder)
    if wanted is None:
        if args:
            yield f"args: found some; {import_path} takes none"
        return
    unknown = list(unknown_keys(args, wanted, "args"))
    yield from unknown
    if unknown:
        return
    try:
        given = wanted.model_validate(args)
        if isinstance(given, EmbeddingAppArgs):
            given.config()
            yield from _guard(given, content)
    except ValidationError as error:
        for e in error.errors(include_url=False):
            yield f"args.{_place(e['loc'])}: {e['msg']}"
    except ConfigError as error:
        yield f"args: {error}"
    yield from _names(application)


def _tls(options: dict[str, Any]) -> Iterator[str]:
    """Certificate and key go together, and fit where they lie on this machine; Any: YAML values."""
    files = [options.get(name) for name in ("ssl_certfile", "ssl_keyfile")]
    if any(files) and not all(files):
        given = "ssl_certfile" if files[0] else "ssl_keyfile"
        yield f"http_options.{given}: found it alone; expected ssl_certfile and ssl_keyfile"
    elif all(files):
        try:
            require_proxy_with_tls()
            if any(Path(str(file)).exists() for file in files):
                require_pair(*map(str, files))
        except ConfigError as error:
            yield f"http_options.{error}"


def _runtime_envs(application: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each Ray runtime environment and its place; the schema takes any mapping for one."""
    yield "runtime_env", application.get("runtime_env") or {}
    for index, deployment in enumerate(application.get("deployments") or ()):
        options = deployment.get("ray_actor_options") or {}
        place = f"deployments.{index}.ray_actor_options.runtime_env"
        yield place, options.get("runtime_env") or {}


def _guard(args: EmbeddingAppArgs, content: dict[str, Any]) -> Iterator[str]:
    """Who can reach the port has to show a key, here or at a gateway."""
    host = (content.get("http_options") or {}).get("host", _DEFAULT_HOST)
    if not is_loopback(host) and args.keys_file is None and not args.behind_gateway:
        yield (
            f"args.keys_file: found none, and http_options.host {host}; expected keys, or "
            "behind_gateway: true where a gateway asks who comes"
        )


def _names(application: dict[str, Any]) -> Iterator[str]:
    """Deployments that are overridden have to be there; ours are known without building them."""
    if application["import_path"] != OURS:
        return
    if application.get("route_prefix", "/") != "/":
        yield f"route_prefix: found {application['route_prefix']!r}; expected '/', as in our links"
    models = ["default", *(application.get("args", {}).get("models") or {})]
    known = {"Ingress", "Preprocessor", *(f"Encoder-{name}" for name in models)}
    for index, deployment in enumerate(application.get("deployments") or ()):
        if deployment["name"] not in known:
            yield (
                f"deployments.{index}.name: found {deployment['name']!r}; "
                f"expected one of {', '.join(sorted(known))}"
            )
        grows = deployment.get("autoscaling_config") or deployment.get("num_replicas", 1) != 1
        if deployment["name"] == "Ingress" and grows:
            yield (
                f"deployments.{index}: found more than one Ingress; expected one: jobs and "
                "the minute's requests are in its memory"
            )


def _imported(import_path: str) -> Any:  # Any: a builder, or a str that says what is wrong
    module_name, _, name = import_path.replace(":", ".").rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        return f"found no module {error.name!r}"
    except (ImportError, ValueError) as error:
        return f"{module_name!r} cannot be imported: {type(error).__name__}"
    found = getattr(module, name, None)
    return f"{module_name!r} has no {name!r}" if found is None else found


def _args_model(builder: Any) -> type[BaseModel] | None:  # Any: whatever was imported
    """The model of a builder's one argument; None when it takes none or is an application."""
    if not inspect.isfunction(builder):
        return None
    hints = typing.get_type_hints(builder)
    parameters = list(inspect.signature(builder).parameters)
    wanted = hints.get(parameters[0]) if parameters else None
    is_model = isinstance(wanted, type) and issubclass(wanted, BaseModel)
    return wanted if is_model else None


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc)) or "the file"


class _StrictLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """A key twice in one mapping is an error; YAML's own readers keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {key!r} twice", node.start_mark
                )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping
