#!/usr/bin/env bash
# Makes build/venv-peers: the other libraries that propagate relevance or attack models, beside this project, in an
# environment of their own. They pin other versions of PyTorch and ask for packages that attribution never uses, so they come without their
# dependencies. What is absent is stood in for by `absent_modules.py`, written below: it holds no code of theirs.
#
# What pip cannot install is said at the end, and `peers_relevance.py` skips it by name.
set -uo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3.11}
VENV=build/venv-peers
PIP=("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check)

test -x "$VENV/bin/python" || "$PYTHON" -m venv "$VENV" || exit 1

# Ours and PyTorch: without them there is nothing to compare.
"${PIP[@]}" --constraint constraints/py311.txt torch==2.13.0 keras numpy scipy scikit-learn pandas matplotlib rich || exit 1
"${PIP[@]}" --no-deps --editable . || exit 1

# Small packages that captum, dl-backtrace and ART import at once.
"${PIP[@]}" tqdm joblib six || echo "tqdm, joblib or six could not be installed"

missing=()
for package in zennit==0.5.1 captum==0.9.0 lxt==2.1 dl-backtrace==0.1.24 foolbox==3.3.4 eagerpy==0.30.0 \
    torchattacks==3.5.1 adversarial-robustness-toolbox==1.20.1 cleverhans==4.0.0 \
    git+https://github.com/fra31/auto-attack@a39220048b3c9f2cca9a4d3a54604793c68eca7e; do
    "${PIP[@]}" --no-deps "$package" || missing+=("$package")
done

site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cat > "$site/absent_modules.py" <<'PYTHON'
"""Stand-ins for packages that the compared libraries import and, in what is measured, never use.

Every name of such a package is an empty class; a call of one raises nothing and does nothing.
"""

import importlib.abc
import importlib.machinery
import sys
import types

ABSENT = ("torchvision", "transformers", "graphviz", "IPython", "tensorflow", "lime", "skimage", "seaborn", "cv2", "lz4", "git", "requests", "easydict", "absl",
          "zstandard", "ninja", "ipykernel", "plotly", "wt_fc_v3_ops", "wt_embedding_v2_ops", "wt_gavgpool_ops",
          "wt_selfattention_v3_ops")


class _Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _named(name)


def _named(name):
    return _Anything(name, (), {"__init__": lambda self, *args, **kwargs: None, "__call__": lambda self, *args: args[0]})


class _Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = _named(name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] not in ABSENT:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        module.__path__ = []
        module.__version__ = "0"


def install() -> None:
    """Stand in for those of ABSENT that are not installed."""
    sys.meta_path.append(_Finder())
PYTHON

for name in "${missing[@]}"; do
    echo "NOT INSTALLED: $name. The comparison runs without it and says so."
done
"$VENV/bin/python" -m benchmarks.peers_relevance --check
