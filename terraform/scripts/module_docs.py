#!/usr/bin/env python3
"""Writes the inputs and outputs of each module into its README, between the two markers; --check only compares.

Reads what `terraform fmt` leaves: one block per `variable` or `output`, closed by a `}` in the first column.
Exits with 1 when a README is stale or missing, or a description, a type or versions.tf is.
"""

import pathlib
import re
import sys

TERRAFORM = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- inputs and outputs: scripts/module_docs.py -->", "<!-- end -->"
BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.M | re.S)


def argument(body: str, name: str) -> str | None:
    """The value of an argument of a block, on one line; an object or list may span several."""
    match = re.search(rf"^  {name}\s*= (.*?)$", body, re.M)
    if not match:
        return None
    value, rest = match.group(1), body[match.end():]
    while value.count("{") + value.count("[") + value.count("(") > value.count("}") + value.count("]") + value.count(")"):
        line, _, rest = rest.lstrip("\n").partition("\n")
        value += " " + line.strip()
    value = re.sub(r"\s+", " ", value)
    # Lines of an object were its separators.
    return re.sub(r"([\w\")]) (\w+ = )", r"\1, \2", value)


def text(value: str) -> str:
    return value.strip('"').replace('\\"', '"').replace("|", "\\|")


def table(module: pathlib.Path) -> tuple[str, list[str]]:
    problems, inputs, outputs = [], [], []
    for file in sorted(module.glob("*.tf")):
        for kind, name, body in BLOCK.findall(file.read_text()):
            description = argument(body, "description")
            if not description:
                problems.append(f"{kind} {name} has no description")
                description = ""
            if kind == "output":
                outputs.append(f"| `{name}` | {text(description)} |")
                continue
            kind_of = argument(body, "type")
            if not kind_of:
                problems.append(f"variable {name} has no type")
            default = argument(body, "default")
            default = "required" if default is None else f"`{default}`"
            inputs.append(f"| `{name}` | `{kind_of}` | {default} | {text(description)} |")
    lines = ["## Inputs", ""]
    lines += ["| Name | Type | Default | Description |", "|---|---|---|---|", *inputs] if inputs else ["None."]
    lines += ["", "## Outputs", ""]
    lines += ["| Name | Description |", "|---|---|", *outputs] if outputs else ["None."]
    return "\n".join(lines), problems


def main() -> int:
    check, failed = "--check" in sys.argv[1:], False
    for module in sorted({file.parent for file in TERRAFORM.glob("**/*.tf") if ".terraform" not in file.parts}):
        generated, problems = table(module)
        readme = module / "README.md"
        if not (module / "versions.tf").exists():
            problems.append("has no versions.tf")
        old = readme.read_text() if readme.exists() else ""
        if BEGIN not in old or END not in old:
            problems.append("has no README.md with the two markers")
        else:
            head, tail = old.split(BEGIN)[0], old.split(END)[1]
            new = f"{head}{BEGIN}\n{generated}\n{END}{tail}"
            if new != old and check:
                problems.append("README.md is stale: run terraform/scripts/module_docs.py")
            elif new != old:
                readme.write_text(new)
        for problem in problems:
            print(f"{module.relative_to(TERRAFORM)}: {problem}", file=sys.stderr)
        failed = failed or bool(problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
