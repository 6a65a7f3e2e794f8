"""How the test of the pages reads them."""

import pytest

from tests.docs.shell_blocks import Block, Command, read_blocks, shows

PAGE = """
Text with ```inline``` fences.

```console
$ one \\
    --more
out 1
out 2
$ two   # why
```

<!-- needs AWS -->

```bash
three
four
```

1. A list:
   <!-- exits with 2 -->
   ```console
   $ five
     indented
   ```

````text
```console
$ this is no block
```
````

```
$ six
```

<!-- gateway.toml -->
```toml
a = 1
```

```console
$ never closed
"""


@pytest.fixture
def blocks() -> list[Block]:
    return read_blocks("page.md", PAGE)


def test_what_is_typed_and_what_is_shown(blocks: list[Block]) -> None:
    shell = [block for block in blocks if block.is_shell]
    assert [block.commands() for block in shell] == [
        [Command("one \\\n    --more", "out 1\nout 2"), Command("two   # why")],
        [Command("three\nfour")],
        [Command("five", "  indented", 2)],
        [Command("six")],
        [Command("never closed")],
    ]
    assert [block.excused for block in shell] == [False, True, False, False, False]
    assert [block.line for block in shell] == [5, 15, 22, 33, 42]
    assert [block.text for block in blocks if block.is_file] == ["a = 1"]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("", "anything", True),
        ('{"a": 1, …, "b": 2}', '{"a":1,"x":5,"b":2}\n', True),
        ('{"a": 1, …}', '{"a":2,"b":2}', False),
        ("req_…\nlast", "first\nreq_12\n\n  last", True),
        ("one\ntwo", "two\none", False),
        ("a.b", "axb", False),
    ],
)
def test_what_is_shown_is_printed(shown: str, printed: str, same: bool) -> None:
    assert shows(shown, printed) is same
