"""template.yaml as CloudFormation sees it: transformed by SAM's own translator, its intrinsic functions worked out.

stack = Stack.transformed(Tracing="on")
stack.resources["GatewayFunction"]["Properties"]        # as the transform leaves it
stack.value(stack.resources["GatewayFunction"]...)      # with Ref, If, Sub and the like replaced by values
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from samtranslator.model import ResourceTypeResolver, sam_resources
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
PSEUDO = {
    "AWS::StackName": "llm-gateway",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()


def load_template() -> dict[str, Any]:
    """As it stands in the file; the short forms of intrinsic functions written out."""
    # Through JSON, so that what YAML anchors share becomes copies: SAM's translator changes what it is given.
    return dict(json.loads(json.dumps(yaml_parse(TEMPLATE.read_text()))))


def transform(template: dict[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What `AWS::Serverless-2016-10-31` makes of it, offline: we name no managed policy by its short name."""
    # What `sam build` puts in the place of folders.
    for resource in template["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = f"s3://bucket/{resource['Properties'][name]}"
    session = boto3.session.Session(region_name=PSEUDO["AWS::Region"])
    translator = Translator({}, Parser(), boto_session=session)
    return dict(translator.translate(template, {**PSEUDO, **parameters}))


@dataclass(frozen=True)
class Stack:
    template: dict[str, Any]
    parameters: dict[str, Any]

    @classmethod
    def transformed(cls, **parameters: Any) -> "Stack":
        template = load_template()
        values = {name: one["Default"] for name, one in template["Parameters"].items()} | parameters
        return cls(transform(template, values), {**PSEUDO, **values})

    @property
    def resources(self) -> dict[str, Any]:
        """Those whose condition holds."""
        every = self.template["Resources"]
        return {name: one for name, one in every.items() if "Condition" not in one or self.holds(one["Condition"])}

    def of_type(self, type_name: str) -> dict[str, Any]:
        """Properties by logical name, worked out."""
        return {name: self.value(one["Properties"]) for name, one in self.resources.items() if one["Type"] == type_name}

    def holds(self, condition: str) -> bool:
        return bool(self.value(self.template["Conditions"][condition]))

    def value(self, node: Any) -> Any:
        """`node` without intrinsic functions. A reference to a resource becomes its logical name, `GetAtt` `Name.Attribute`."""
        if isinstance(node, list):
            return [one for one in map(self.value, node) if one is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((key, argument),) = node.items()
            work = getattr(self, "_" + key.removeprefix("Fn::").lower(), None)
            if key == "Condition" and isinstance(argument, str):
                return self.holds(argument)
            if work is not None and (key == "Ref" or key.startswith("Fn::")):
                return work(argument)
        worked_out = {key: self.value(one) for key, one in node.items()}
        return {key: one for key, one in worked_out.items() if one is not NO_VALUE}

    def _ref(self, name: str) -> Any:
        return NO_VALUE if name == "AWS::NoValue" else self.parameters.get(name, name)

    def _if(self, argument: list[Any]) -> Any:
        condition, yes, no = argument
        return self.value(yes if self.holds(condition) else no)

    def _equals(self, argument: list[Any]) -> bool:
        left, right = map(self.value, argument)
        return bool(left == right)

    def _not(self, argument: list[Any]) -> bool:
        return not self.value(argument[0])

    def _and(self, argument: list[Any]) -> bool:
        return all(self.value(one) for one in argument)

    def _getatt(self, argument: list[str]) -> str:
        return ".".join(argument)

    def _join(self, argument: list[Any]) -> str:
        return str(argument[0]).join(str(self.value(one)) for one in argument[1])

    def _sub(self, argument: Any) -> str:
        text, names = argument if isinstance(argument, list) else (argument, {})

        def one(match: re.Match[str]) -> str:
            name = match[1]
            return str(self.value(names[name]) if name in names else self.parameters.get(name, name))

        return re.sub(r"\$\{([^!}]+)\}", one, text)


# Keeps the resource classes registered: the translator looks them up by name.
RESOURCE_TYPES = ResourceTypeResolver(sam_resources)
