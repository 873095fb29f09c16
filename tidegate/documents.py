"""YAML as people write it: instants stay text, and no key is silently dropped."""

from collections.abc import Hashable
from typing import Any, Final

import yaml

from tidegate.errors import PlanError

_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


class _Strict(yaml.SafeLoader):
    # YAML's own reading of an instant loses the text for the message, and knows dates without a
    # zone; Pydantic reads it instead.
    yaml_implicit_resolvers = {  # noqa: RUF012 - as the class above declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - PyYAML's own
    ) -> dict[Hashable, Any]:
        written: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in written:
                    problem = f'"{key.value}" is written twice'
                    raise yaml.constructor.ConstructorError(
                        problem=problem, problem_mark=key.start_mark
                    )
                written.add(key.value)
        return super().construct_mapping(node, deep)


def read_documents(text: str, *, where: str) -> list[object]:
    """Return the documents of a YAML text, without empty ones; `where` names it in messages.

    Raises PlanError, which names the line that is not YAML.
    """
    try:
        documents = yaml.load_all(text, Loader=_Strict)
        return [document for document in documents if document is not None]
    except yaml.YAMLError as error:
        message = f"{where}: {_problem(error)}, expected YAML. Mend that place."
        raise PlanError(message, code="yaml") from error


def _problem(error: yaml.YAMLError) -> str:
    match error:
        case yaml.MarkedYAMLError(problem_mark=yaml.Mark() as mark):
            return f"line {mark.line + 1}: got what is no YAML ({error.problem})"
        case yaml.reader.ReaderError():
            return f"character {error.position + 1}: got what is no YAML ({error.reason})"
        case _:
            return f"got what is no YAML ({error})"
