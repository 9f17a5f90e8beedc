"""`mcproxy completion`: scripts for a shell that complete commands, options and the server's values (candidates.py).

The scripts call the program with a variable of the environment set, and click answers. Those for zsh and fish are
click's. bash needs one of our own: it ends words at ":" too, of which addresses are full, so click would complete the
half of one. Ours looks at the whole line, and gives bash what follows the last colon.
"""

import os
from collections.abc import Mapping

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from mcproxy.cli.options import COMPLETION, example
from mcproxy.cli.values import Word

_BASH = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        plain) COMPREPLY+=("$value") ;;
        esac
    done < <(%(complete_var)s=bash_complete COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" \\
        COMP_WORDBREAKS="$COMP_WORDBREAKS" "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the one that it is in."""
        line = os.environ["COMP_LINE"].encode()[: int(os.environ["COMP_POINT"])].decode(errors="replace")
        words = split_arg_string(line)
        begun = "" if line[-1:].isspace() or not words else words.pop()
        return words[1:], begun

    def format_completion(self, item: CompletionItem) -> str:
        """A kind and a value, without what bash takes for words before it."""
        _, begun = self.get_completion_args()
        value = begun.rpartition("=")[2] if begun.startswith("-") else begun
        kept = value.rfind(":") + 1 if ":" in os.environ.get("COMP_WORDBREAKS", "") else 0
        return f"{item.type},{item.value[kept:]}"


SHELLS: Mapping[str, type[ShellComplete]] = {"bash": _Bash, "zsh": ZshComplete, "fish": FishComplete}


def register() -> None:
    """Let click answer our scripts."""
    add_completion_class(_Bash)


@click.command(
    epilog=example(
        'eval "$(mcproxy completion bash)"', "mcproxy completion fish > ~/.config/fish/completions/mcproxy.fish"
    )
)
@click.argument("shell", type=Word(list(SHELLS)))
def completion(shell: str) -> None:
    """Print a script that completes commands, options, hosts, listeners, connections and rules in SHELL."""
    root = click.get_current_context().find_root()
    made = SHELLS[shell](root.command, {}, "mcproxy", COMPLETION)
    click.echo(made.source_template % made.source_vars())
