"""Tests of the emulator's extensions and of the launcher. All that they call is on this machine: a proxy is not for them."""

import os

from launcher import network

for name in network.PROXY_VARIABLES:
    os.environ.pop(name, None)
