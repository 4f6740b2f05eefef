"""The launcher of the local stack. `stack.py` beside this package is its command line.

Reading order: `layout` (where things lie), `settings` (what a stack is), `lifecycle` (up and down), then the steps:
`prerequisites`, `build`, `emulator`, `terraform`, `replicas`. `progress`, `processes`, `network` and `aws` serve them.
Only `aws` and what imports it needs the virtual environment; the rest is standard library.
"""
