from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import pytest

from cifarzoo import viz
from tests.viz.conftest import MakeHistory
