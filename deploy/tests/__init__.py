"""Tests of the deployment tool's parts: `PYTHONPATH=localstack python -m unittest discover -s deploy/tests -t deploy` in the root.

Everything that they call is on this machine, or faked: a proxy in the environment would get in the way.
"""

import os

from launcher import network

for name in network.PROXY_VARIABLES:
    os.environ.pop(name, None)
