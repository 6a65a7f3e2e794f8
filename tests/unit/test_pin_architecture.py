"""A built template can only be deployed on the processor that its layers were built for."""

import pytest
from samtranslator.yaml_helper import yaml_parse

from scripts.pin_architecture import pinned

BUILT = """\
Parameters:
  Architecture:
    Description: The processor
    Type: String
    AllowedValues:
    - arm64
    - x86_64
    Default: arm64
  MemorySize:
    Type: Number
    Default: 256
Resources: {}
"""


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_one_value_is_left(architecture: str) -> None:
    document = yaml_parse(pinned(BUILT, architecture))
    assert document["Parameters"]["Architecture"]["AllowedValues"] == [architecture]
    assert document["Parameters"]["Architecture"]["Default"] == architecture
    assert document["Parameters"]["MemorySize"] == {"Type": "Number", "Default": 256}
    assert document["Resources"] == {}


def test_another_template_is_refused() -> None:
    with pytest.raises(ValueError, match="Architecture"):
        pinned("Resources: {}\n", "arm64")
